"""The contract of a whole SAM, which training, objects, one example, the demo and export know."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from samseg.common.errors import InputError
from samseg.encoders.encoder import TrunkEncoder
from samseg.models.sam.class_tokens import class_logits
from samseg.models.sam.steps import enlarged, grid_positions, product
from samseg.models.sam.transform import ImageTransform

TOKENS_AT_ONCE = 2**15  # of images, over the objects that are decoded together: what bounds the memory
Features = dict[str, Tensor]  # maps (B, C, h, w) of B images by name, the "embedding" (B, 256, h, w) among them


class Answers(NamedTuple):
    """What a SAM answers to K prompts about one image.

    Attributes:
        logits: (K, M, 4h, 4w) float32.
        ious: predicted, (K, M).
        object_scores: logits of whether the object is there, (K,); None where the SAM does not say.
    """

    logits: Tensor
    ious: Tensor
    object_scores: Tensor | None = None


class PromptableSam(nn.Module):
    """A whole SAM: image encoder, prompt encoder and mask decoder.

    Called with images (B, 3, H, W) it gives the classes' logits (B, C, H, W), if it has class tokens. Called with a
    training batch's inputs it prompts for the objects in them, as its `rounds` say, and gives the loss of each.

    Args:
        encoder: its taps are those that the decoder looks at, the image embedding last.
        prompt_encoder, mask_decoder: segment-anything's, or one of their kind.
        image_transform: from an image to the network's square.

    Attributes:
        class_tokens: a token for each class, which answers without prompts; None: it answers to prompts alone.
        rounds: what is simulated in training (`rounds.Rounds`); None: it is not trained.
        takes_taps: its forward takes stored taps in place of images.
        mask_threshold: a pixel is in a mask where its logit is above this.
        largest_logit: masks that are handed back to serve as prompts are clamped to this; None: they are not.
        format: what `samseg export --to` calls its authors' files.
        scores_objects: its answers say whether the object is there.
        grid: settings of the automatic masks that this SAM was published with, by `SamAutomaticMaskGenerator`'s names.
        published_name, transformers_name: the name that a tensor of "image_encoder.", the trunk's, "prompt_encoder." or
            "mask_decoder." has in its authors' files, and in transformers'.
    """

    takes_taps = True
    mask_threshold = 0.0
    largest_logit: float | None = None
    format: str
    scores_objects = False
    grid: dict[str, Any] = {}
    published_name: Callable[[str], str]
    transformers_name: Callable[[str], str]

    def __init__(
        self, encoder: TrunkEncoder, prompt_encoder: nn.Module, mask_decoder: nn.Module, image_transform: ImageTransform
    ):
        nn.Module.__init__(self)
        self.encoder, self.prompt_encoder, self.mask_decoder = encoder, prompt_encoder, mask_decoder
        self.image_transform = image_transform
        encoder.img_size = image_transform.size  # which segment-anything's generator of masks asks for
        self.class_tokens = self.rounds = None

    def features(self, taps: list[Tensor]) -> Features:
        """What the mask decoder looks at, of the encoder's taps (B, C, h, w)."""
        raise NotImplementedError

    def look(self, features: Features, sparse: Tensor, dense: Tensor, positions: Tensor, multimask: bool) -> Answers:
        """Run the mask decoder on the image's features and the embeddings of K prompts."""
        raise NotImplementedError

    def upscaled(self, pixels: Tensor, features: Features) -> Tensor:
        """The embedding after the transformer (B, 256, h, w) -> what masks are drawn on, (B, 32, 4h, 4w)."""
        return self.mask_decoder.output_upscaling(pixels)

    def freeze_for_training(self) -> None:
        """Freeze what its authors leave as it is when the mask decoder is trained, in its `rounds`."""
        self.prompt_encoder.requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint that its authors' package loads strictly, whole or not at all; LoRA is merged into it."""
        raise NotImplementedError

    def save_transformers(self, folder: Path) -> None:
        """Write the files of an existing folder that transformers' model of this SAM and its processor take."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def image_encoder(self) -> TrunkEncoder:
        """`encoder`, as segment-anything calls it."""
        return self.encoder

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.prompt_encoder.input_image_size[0]

    @property
    def objects_at_once(self) -> int:
        height, width = self.prompt_encoder.image_embedding_size
        return max(1, TOKENS_AT_ONCE // (height * width))

    def forward(self, inputs: Tensor | dict) -> Tensor | dict[str, Tensor]:
        """Images (B, 3, H, W) -> the classes' logits (B, C, H, W); a training batch -> what `Rounds` gives."""
        if isinstance(inputs, Tensor):
            return self.without_prompts(self.embed(inputs), inputs.shape[2:])
        return self.rounds.learn(self, inputs)

    def embed(self, images: Tensor | list[Tensor]) -> Features:
        """Images (B, 3, H, W) as `image_transform` gives them, or stored taps (B, h, w, C), -> their features."""
        stored = not isinstance(images, Tensor)
        return self.features([t.float().permute(0, 3, 1, 2) for t in images] if stored else self.encoder.taps(images))

    def decode(
        self,
        features: Features,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> Answers:
        """Answers for K prompts about one image.

        Args:
            features: of the image.
            points: (K, P, 2) in pixels of the network's input, and their labels (K, P): 1, 0, or -1 for no point.
            boxes: (K, 4).
            masks: logits of earlier answers (K, 1, 4h, 4w).
            multimask: three answers, for a prompt that may mean several things; SAM-HQ gives one all the same.
        """
        with torch.autocast(features["embedding"].device.type, enabled=False):  # which would round positions
            sparse, dense = self.prompt_encoder(points, boxes, masks)
            positions = self.prompt_encoder.get_dense_pe()
        dense = dense[:1] if masks is None else dense  # for all objects the same
        logits, ious, scores = self.look(features, sparse, dense, positions, multimask)
        return Answers(logits.float(), ious.float(), None if scores is None else scores.float())

    def without_prompts(self, features: Features, shape: tuple[int, int]) -> Tensor:
        """The classes' logits (B, C, H, W) for images of ``shape`` (H, W); InputError without class tokens."""
        if self.class_tokens is None:
            raise InputError(
                "this model answers to prompts alone; one trained with prompts.none above 0 predicts classes, too"
            )
        source = features["embedding"] + self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        filters, fine = class_logits(
            self.class_tokens,
            self.mask_decoder.transformer,
            lambda pixels: self.upscaled(pixels, features),
            source,
            grid_positions(self.prompt_encoder.pe_layer, source),
        )
        return enlarged(product(filters, fine), shape, self.encoder.tap_strides[-1] / 4)

    def unfreeze_encoder(self) -> None:
        """As SMP's models have it."""
        self.encoder.requires_grad_(True)


def of_image(features: Features, index: int) -> Features:
    """The features of one image of several."""
    return {name: maps[index : index + 1] for name, maps in features.items()}
