"""SAM, MobileSAM and SAM-HQ: this package's image encoder under segment-anything's prompt encoder and mask decoder.

Paper: Kirillov et al., "Segment Anything", ICCV 2023. `Sam`, its prompt encoder, its mask decoder and all that runs on
them (`SamPredictor`, `SamAutomaticMaskGenerator`, the ONNX export) are segment-anything's own.
"""

from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam
from torch import Tensor

from samseg.common.errors import InputError, WeightsError
from samseg.common.files import written_whole
from samseg.encoders.encoder import TrunkEncoder
from samseg.models.sam.contract import Answers, Features, PromptableSam
from samseg.models.sam.hq import MaskDecoderHQ, early_tap
from samseg.models.sam.names import transformers_name
from samseg.models.sam.save import save_for_transformers, tensors
from samseg.models.sam.steps import EMBEDDING, STRIDE, filters, shown, two_way_transformer
from samseg.models.sam.transform import Padded
from samseg.models.sam.two_way import drawn

IMAGE_SIZE = 1024  # px, the side SAM was trained at


class ImageEncoder(TrunkEncoder):
    """A trunk as `Sam` wants it: one tensor from an image.

    Args:
        variant: a row of the registry, such as "sam-vit_b".
        early: give the maps that SAM-HQ's decoder looks at, too: those at stride 4, or else the first of a ViT.
        in_channels: of the image; other than 3, its first filters are random.
    """

    def __init__(self, variant: str, early: bool = False, in_channels: int = 3):
        super().__init__(variant)
        self.read_bands(in_channels)
        self.keep_taps((early_tap(self.tap_strides), -1) if early else (-1,))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> the image embedding (B, 256, H/16, W/16), and behind its channels the early features'."""
        return torch.cat([taps[-1], *taps[:-1]], dim=1) if len(taps := self.taps(x)) > 1 else taps[-1].contiguous()


class MaskDecoder1(MaskDecoder):
    """segment-anything's, quicker."""

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """All four masks (K, 4, 4h, 4w) for K prompts about one image, and their predicted IoUs (K, 4)."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        source = image_embeddings + dense_prompt_embeddings
        tokens, pixels = shown(self.transformer, own, sparse_prompt_embeddings, source, image_pe)
        masks = drawn(self.output_upscaling, filters(self, tokens[:, 1 : len(own)]), pixels, source.shape[2:], {})
        return masks, self.iou_prediction_head(tokens[:, 0])


class Sam1(PromptableSam, Sam):
    """A SAM of the first generation, which segment-anything's own tools take for theirs."""

    format = "sam"
    published_name = staticmethod(str)
    transformers_name = staticmethod(transformers_name)

    def __init__(self, encoder: ImageEncoder, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder):
        super().__init__(encoder, prompt_encoder, mask_decoder, Padded(prompt_encoder.input_image_size[0]))

    @classmethod
    def empty(cls, variant: str, image_size: int = IMAGE_SIZE, hq: bool = False, in_channels: int = 3) -> "Sam1":
        """With random weights, in training mode.

        Raises WeightsError where the encoder has no early features for SAM-HQ's decoder.
        """
        encoder = ImageEncoder(variant, hq, in_channels)
        if hq and "sam-hq" not in encoder.trunk.sam_decoders:
            raise WeightsError(f"SAM-HQ's decoder needs a ViT of SAM's, not {variant} (Light HQ-SAM is not supported)")
        return cls(encoder, *prompt_and_mask_decoder(image_size, encoder.tap_channels[0] if hq else None))

    @property
    def pixel_mean(self) -> Tensor:
        return self._of_pixels(self.image_transform.mean)

    @property
    def pixel_std(self) -> Tensor:
        return self._of_pixels(self.image_transform.std)

    def forward(self, inputs: Tensor | dict | list, multimask_output: bool = False) -> Any:
        """As `PromptableSam`'s; a list of images with their prompts as `Sam` takes it."""
        if isinstance(inputs, list):
            return Sam.forward(self, inputs, multimask_output)
        return super().forward(inputs)

    def features(self, taps: list[Tensor]) -> Features:
        return dict(zip(("embedding", "early"), (taps[-1], *taps[:-1])))

    def look(self, features: Features, sparse: Tensor, dense: Tensor, positions: Tensor, multimask: bool) -> Answers:
        embedding = torch.cat([*features.values()], dim=1)
        return Answers(*self.mask_decoder(embedding, positions, sparse, dense, multimask_output=multimask))

    def freeze_for_training(self) -> None:
        """Of SAM-HQ all but what it has beside SAM, which then answers alone, as it was trained."""
        super().freeze_for_training()
        if isinstance(self.mask_decoder, MaskDecoderHQ):
            self.mask_decoder.hq_token_only = True
            plain = set(prompt_and_mask_decoder()[1].state_dict())
            for name, parameter in self.mask_decoder.named_parameters():
                parameter.requires_grad_(name not in plain)

    def save(self, path: str | Path) -> None:
        """For segment-anything; with sam-vit_t for MobileSAM's package, SAM-HQ's for segment-anything-hq."""
        unused = self.encoder.trunk.unused_tensors
        state = tensors(self) | {f"image_encoder.{name}": torch.zeros(shape) for name, shape in unused.items()}
        with written_whole(path) as temporary:
            torch.save(state, temporary)

    def save_transformers(self, folder: Path) -> None:
        """For `SamModel` and `SamProcessor`; InputError for sam-vit_t and SAM-HQ, which `SamModel` has no place for."""
        hq, vision = isinstance(self.mask_decoder, MaskDecoderHQ), self.encoder.trunk.transformers_config()
        if hq or vision is None:
            what = "SAM-HQ's tensors" if hq else self.encoder.variant
            raise InputError(f"transformers' SamModel has no place for {what}: write segment-anything's format")
        state = {transformers_name(name): tensor for name, tensor in tensors(self).items()}
        size = self.image_size
        layout = {
            "size": {"longest_edge": size},
            "mask_size": {"longest_edge": size // 4},
            "do_pad": True,
            "pad_size": {"height": size, "width": size},
            "mask_pad_size": {"height": size // 4, "width": size // 4},
        }
        save_for_transformers(self, folder, state, "sam", vision, vision["image_size"], layout)

    def _of_pixels(self, values: tuple[float, ...]) -> Tensor:
        return torch.tensor([255 * value for value in values], device=self.device).view(-1, 1, 1)


def prompt_and_mask_decoder(
    image_size: int = IMAGE_SIZE, early_channels: int | None = None
) -> tuple[PromptEncoder, MaskDecoder]:
    """segment-anything's prompt encoder for images of `image_size` pixels a side, and its mask decoder, both random.

    With `early_channels`, those of the encoder's early features, the decoder is SAM-HQ's.
    """
    tokens = image_size // STRIDE
    prompt_encoder = PromptEncoder(EMBEDDING, (tokens, tokens), (image_size, image_size), mask_in_chans=16)
    arguments = dict(transformer_dim=EMBEDDING, transformer=two_way_transformer())
    if early_channels is None:
        return prompt_encoder, MaskDecoder1(**arguments)
    return prompt_encoder, MaskDecoderHQ(early_channels=early_channels, **arguments)
