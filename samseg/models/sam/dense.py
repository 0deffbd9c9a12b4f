"""SAM's mask decoder without prompts: the architecture "sam", images -> logits for every class.

A token a class, as SAMed (Zhang and Liu, 2023) and AutoGluon have it: SAM's two-way transformer shows the image to all
of them at once, and each draws its own mask on the upscaled embedding.
"""

import warnings
from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path

from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn

from samseg.common.errors import ConfigError
from samseg.encoders import ROWS
from samseg.encoders.encoder import TrunkEncoder
from samseg.encoders.fetch import load_sam_weights
from samseg.encoders.norm import LayerNorm2d
from samseg.models.sam.class_tokens import ClassTokens, class_logits
from samseg.models.sam.files import NoMaskDecoder, SamState, sam_state
from samseg.models.sam.hq import Detail, early_tap
from samseg.models.sam.sam2 import upscaled
from samseg.models.sam.steps import EMBEDDING, FINE, STRIDE, enlarged, grid_positions, product, two_way_transformer


class SamSegmenter(SegmentationModel):
    """SAM's encoder under its mask decoder, with a token for each class: (B, 3, H, W) -> logits (B, classes, H, W).

    Images of any size. It has the parts of SMP's models, `encoder`, `decoder` and `segmentation_head`.

    Args:
        encoder_name: one of SAM's, such as "sam-vit_b".
        encoder_weights: None; weights are loaded afterwards.
        in_channels: channels of the image.
        classes: channels of the logits.
        high_resolution: add early features to those that masks are drawn on, as SAM-HQ does: finer borders.

    Raises:
        ConfigError: the encoder is not SAM's or SAM 2's.
    """

    requires_divisible_input_shape = False

    def __init__(
        self,
        encoder_name: str = "sam-vit_b",
        encoder_weights: None = None,
        in_channels: int = 3,
        classes: int = 1,
        high_resolution: bool = False,
    ):
        super().__init__()
        need_sams(encoder_name, besides={"sam3"})  # whose neck has more than a linear layer to its finer features
        self.encoder = TrunkEncoder(encoder_name)
        own = bool(self.encoder.trunk.fine_maps)
        if own and high_resolution:
            raise ConfigError(f"high_resolution is SAM-HQ's; {encoder_name} has finer features anyway: leave it out")
        early = (0, 1) if own else (early_tap(self.encoder.tap_strides),) if high_resolution else ()
        self.encoder.keep_taps((*early, -1))
        self.encoder.read_bands(in_channels)
        detail = (self.encoder.tap_channels[0], self.encoder.tap_strides[0]) if high_resolution else None
        self.decoder = DenseDecoder(classes, detail, self.encoder.tap_channels[:2] if own else None)
        self.segmentation_head = nn.Identity()
        self.classification_head = None

    def load_sam(self, file: Path) -> None:
        """Start from a checkpoint of SAM or SAM-HQ; one without a mask decoder leaves it random, and says so.

        Raises:
            WeightsError: the file is missing or damaged, or does not fit.
        """
        try:
            state = sam_state(file, self.encoder.variant)
        except NoMaskDecoder:
            load_sam_weights(self.encoder, file)
            warnings.warn(f"{file} holds SAM's image encoder alone: the mask decoder starts at random", stacklevel=2)
            return
        self.encoder.load_state_dict(state.trunk)
        self.decoder.load_sam(state)


class DenseDecoder(nn.Module):
    """What of SAM's mask decoder and prompt encoder works without a prompt, under its names there, and class tokens.

    Args:
        classes: C.
        detail: channels and stride of the early features to draw on, if they are wanted.
        stages: of SAM 2, channels of the encoder's maps at strides 4 and 8, of which its finer features are made.
    """

    def __init__(self, classes: int, detail: tuple[int, int] | None = None, stages: Sequence[int] | None = None):
        super().__init__()
        self.transformer = two_way_transformer()
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(EMBEDDING, EMBEDDING // 4, kernel_size=2, stride=2),
            LayerNorm2d(EMBEDDING // 4),
            nn.GELU(),
            nn.ConvTranspose2d(EMBEDDING // 4, FINE, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.no_mask_embed = nn.Embedding(1, EMBEDDING)
        self.pe_layer = PositionEmbeddingRandom(EMBEDDING // 2)
        self.class_tokens = ClassTokens(classes, EMBEDDING, FINE)
        self.detail = None if detail is None else Detail(*detail)
        self.fine = None
        if stages is not None:  # SAM 2's neck and decoder have a linear layer each here, one after the other
            layers = zip(("fine4", "fine8"), stages, (FINE, 2 * FINE), strict=True)
            self.fine = nn.ModuleDict({name: nn.Conv2d(inner, outer, 1) for name, inner, outer in layers})

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """[image (B, 3, H, W), early features if they are wanted, embedding (B, 256, h, w)] -> logits (B, C, H, W)."""
        embedding, upscaling = features[-1], self.output_upscaling
        if self.fine is not None:
            fine = {name: layer(stage) for (name, layer), stage in zip(self.fine.items(), features[1:3], strict=True)}
            upscaling = partial(upscaled, upscaling, features=fine)
        source = embedding + self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        filters, fine = class_logits(
            self.class_tokens, self.transformer, upscaling, source, grid_positions(self.pe_layer, embedding)
        )
        if self.detail is not None:
            fine = self.detail(fine, embedding, features[1])
        return enlarged(product(filters, fine), features[0].shape[2:], STRIDE / 4)

    def load_sam(self, state: SamState) -> None:
        """Take what SAM learned, and SAM-HQ for the details; the classes' tokens are SAM's with noise."""
        published = state.prompt_encoder | state.mask_decoder
        published |= {f"detail.{name}": tensor for name, tensor in state.mask_decoder.items()}
        if self.fine is not None:
            memory = published["no_mem_embed"].reshape(1, -1)  # that there is none, which is always added, too
            published["no_mask_embed.weight"] = published["no_mask_embed.weight"] + memory
            for name, neck, own in (("fine4", 3, "conv_s0"), ("fine8", 2, "conv_s1")):
                first, second = (
                    [tensors[f"{layer}.{part}"] for part in ("weight", "bias")]
                    for tensors, layer in ((state.trunk, f"neck.convs.{neck}"), (published, own))
                )
                matrix = second[0].flatten(1)
                published[f"fine.{name}.weight"] = (matrix @ first[0].flatten(1))[..., None, None]
                published[f"fine.{name}.bias"] = matrix @ first[1] + second[1]
        own = self.state_dict()
        self.load_state_dict({name: published.get(name, tensor) for name, tensor in own.items()})
        self.class_tokens.start_from(state.mask_decoder)


def need_sams(encoder_name: str, besides: Set[str] = frozenset()) -> None:
    """ConfigError for an encoder that no SAM's mask decoder, ``besides`` some, can be put on."""
    if encoder_name not in ROWS or not ROWS[encoder_name].outline.sam_decoders - besides:
        able = ", ".join(name for name, row in ROWS.items() if row.outline.sam_decoders - besides)
        raise ConfigError(
            f"model.arch=sam is SAM's mask decoder and needs SAM's encoder, not {encoder_name}: take one of {able}, or "
            "another model.arch, such as unet"
        )
