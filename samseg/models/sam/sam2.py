"""SAM 2 and 2.1 (Ravi et al., 2024, https://arxiv.org/abs/2408.00714) for images: all of it but the memory of videos.

Its prompt encoder and its mask decoder are SAM's with what is added here; reference code: `SAM2ImagePredictor` in
facebookresearch/sam2, and transformers' `Sam2Model`.
"""

from pathlib import Path

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from samseg.common.errors import ConfigError
from samseg.common.files import written_whole
from samseg.encoders.encoder import TrunkEncoder
from samseg.encoders.registry import ROWS
from samseg.models.sam.contract import Answers, Features, PromptableSam
from samseg.models.sam.names import sam2_name, sam2_transformers_name
from samseg.models.sam.save import save_for_transformers, tensors
from samseg.models.sam.steps import EMBEDDING, FINE, best_of_three, filters, shown, two_way_transformer
from samseg.models.sam.transform import Squashed
from samseg.models.sam.two_way import drawn
from samseg.models.sam.video import video_tensors

STABLE, DELTA = (
    0.98,
    0.05,
)  # a single mask stands if its area at the logit DELTA is at least this share of that at -DELTA
POINTS = "prompt_encoder.point_embed"


class PromptEncoder2(PromptEncoder):
    """SAM's, with a point that is none beside boxes, too, and what says that there is no memory of a video."""

    def __init__(self, image_size: int, stride: int):
        tokens = image_size // stride
        super().__init__(EMBEDDING, (tokens, tokens), (image_size, image_size), mask_in_chans=16)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, EMBEDDING))

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As SAM's: embeddings of K prompts (K, P, 256), and of their masks (K, 256, h, w)."""
        if boxes is not None:
            none = boxes.new_zeros(len(boxes), 1, 2), boxes.new_full((len(boxes), 1), -1)
            points = none if points is None else tuple(torch.cat(pair, dim=1) for pair in zip(points, none))
        return super().forward(points, boxes, masks)


class MaskDecoder2(MaskDecoder):
    """SAM's, drawn on high-resolution features, with a token that says whether the object is there at all."""

    def __init__(self):
        super().__init__(transformer_dim=EMBEDDING, transformer=two_way_transformer())
        self.obj_score_token = nn.Embedding(1, EMBEDDING)
        self.pred_obj_score_head = MLP(EMBEDDING, EMBEDDING, 1, 3)
        self.conv_s0 = nn.Conv2d(EMBEDDING, FINE, kernel_size=1)
        self.conv_s1 = nn.Conv2d(EMBEDDING, 2 * FINE, kernel_size=1)

    def forward(self, features: Features, sparse: Tensor, dense: Tensor, positions: Tensor, multimask: bool) -> Answers:
        """As `PromptableSam.look`. For one mask, when not training: an unstable one gives way to the best of three."""
        own = torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])
        source = features["embedding"] + dense
        tokens, pixels = shown(self.transformer, own, sparse, source, positions)
        masks = drawn(self.output_upscaling, filters(self, tokens[:, 2 : len(own)]), pixels, source.shape[2:], features)
        ious = self.iou_prediction_head(tokens[:, 1]).sigmoid()
        scores = self.pred_obj_score_head(tokens[:, 0])[:, 0]
        if multimask:
            return Answers(masks[:, 1:], ious[:, 1:], scores)
        one, its_iou = masks[:, :1], ious[:, :1]
        if not self.training:
            best, best_iou = best_of_three(masks, ious)
            stable = _stability(one) >= STABLE
            one, its_iou = torch.where(stable[..., None, None], one, best), torch.where(stable, its_iou, best_iou)
        return Answers(one, its_iou, scores)


class Sam2(PromptableSam):
    """A SAM of the second generation.

    Attributes:
        video: published tensors of the memory of videos, which nobody runs here, by sam2's names: saved as they came.
    """

    format = "sam2"
    scores_objects = True
    largest_logit = 32.0
    grid = {"pred_iou_thresh": 0.8}
    published_name = staticmethod(sam2_name)
    transformers_name = staticmethod(sam2_transformers_name)

    def __init__(self, encoder: TrunkEncoder, prompt_encoder: PromptEncoder2, mask_decoder: MaskDecoder2):
        row = ROWS[encoder.variant]
        transform = Squashed(prompt_encoder.input_image_size[0], row.mean, row.std)
        super().__init__(encoder, prompt_encoder, mask_decoder, transform)
        encoder.keep_taps((*encoder.trunk.fine_maps, -1))
        self.video: dict[str, Tensor] = {}

    @classmethod
    def empty(cls, variant: str, image_size: int, hq: bool = False, in_channels: int = 3) -> "Sam2":
        """With random weights, in training mode; ConfigError for ``hq``, which is SAM-HQ's."""
        if hq:
            raise ConfigError(
                f"model.decoder.high_resolution=true is SAM-HQ's, for a ViT of SAM's; {variant} has high-resolution "
                "features of its own: leave it out"
            )
        encoder = TrunkEncoder(variant)
        encoder.read_bands(in_channels)
        return cls(encoder, PromptEncoder2(image_size, encoder.tap_strides[-1]), MaskDecoder2())

    def features(self, taps: list[Tensor]) -> Features:
        *stages, embedding = taps
        neck, decoder = self.encoder.trunk.neck, self.mask_decoder
        own = next(neck.parameters()).dtype  # rounded, unlike all else, if the trunk is
        fine4, fine8 = (level.to(embedding.dtype) for level in neck.fine(*(stage.to(own) for stage in stages)))
        embedding = embedding + self.prompt_encoder.no_mem_embed.reshape(1, -1, 1, 1)
        return {"embedding": embedding, "fine8": decoder.conv_s1(fine8), "fine4": decoder.conv_s0(fine4)}

    def look(self, features: Features, sparse: Tensor, dense: Tensor, positions: Tensor, multimask: bool) -> Answers:
        return self.mask_decoder(features, sparse, dense, positions, multimask)

    def upscaled(self, pixels: Tensor, features: Features) -> Tensor:
        return upscaled(self.mask_decoder.output_upscaling, pixels, features)

    def freeze_for_training(self) -> None:
        """The object's score, too, which true objects alone teach nothing; the neck's fine levels go with the rest."""
        super().freeze_for_training()
        absent = self.rounds.prompts.absent > 0
        self.mask_decoder.obj_score_token.requires_grad_(absent)
        self.mask_decoder.pred_obj_score_head.requires_grad_(absent)
        self.encoder.trunk.neck.requires_grad_(True)

    def save(self, path: str | Path) -> None:
        """For sam2's `build_sam2`; the memory of videos as it came with sam2's own file, else zeros: images alone."""
        state = {sam2_name(name): tensor for name, tensor in tensors(self).items()} | (self.video or video_tensors())
        with written_whole(path) as temporary:
            torch.save({"model": state}, temporary)

    def save_transformers(self, folder: Path) -> None:
        """For `Sam2Model` and `Sam2Processor`."""
        self._save_transformers(folder, tensors(self), "sam2")

    def _save_transformers(self, folder: Path, own: dict[str, Tensor], kind: str, **processor: str) -> None:
        state = {self.transformers_name(name): tensor for name, tensor in own.items()}
        state[f"{POINTS}.weight"] = torch.cat([state.pop(f"{POINTS}.{label}.weight") for label in range(4)])
        size, mask = self.image_size, self.prompt_encoder.mask_input_size[0]
        layout = {"size": {"height": size, "width": size}, "mask_size": {"height": mask, "width": mask}} | processor
        save_for_transformers(self, folder, state, kind, self.encoder.trunk.transformers_config(size), size, layout)


def upscaled(upscaling: nn.Sequential, pixels: Tensor, features: Features) -> Tensor:
    """SAM's upscaling of (K, 256, h, w) to (K, 32, 4h, 4w), the high-resolution features added on the way."""
    first, norm, activation, second, last = upscaling
    return last(second(activation(norm(first(pixels) + features["fine8"]))) + features["fine4"])


def _stability(masks: Tensor) -> Tensor:
    """The share of a mask's area that a stricter threshold keeps, (K, 1) of (K, 1, h, w); 1 for an empty one."""
    inner, outer = ((masks > threshold).sum((2, 3)) for threshold in (DELTA, -DELTA))
    return torch.where(outer > 0, inner / outer, 1.0)
