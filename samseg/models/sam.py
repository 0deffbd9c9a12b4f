"""SAM itself: this package's image encoder under segment-anything's prompt encoder and mask decoder.

Paper: Kirillov et al., "Segment Anything", ICCV 2023. `Sam`, its prompt encoder, its mask decoder and all that runs on
them (`SamPredictor`, `SamAutomaticMaskGenerator`, the ONNX export) are segment-anything's own.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from samseg.common.errors import ConfigError, WeightsError, suggestion
from samseg.encoders.fetch import fetch, is_published
from samseg.encoders.registry import ROWS
from samseg.encoders.weights import listed, read_checkpoint, trunk_state, variant_of
from samseg.models.sam_hq import MaskDecoderHQ
from samseg.models.sam_names import POSITIONS, SHARED_POSITIONS, transformers_name

IMAGE_SIZE = 1024  # px, the side SAM was trained at
STRIDE = 16  # of the image embedding
EMBEDDING = 256  # channels of the image embedding and of prompts
HQ_TOKEN = "hf_token.weight"
IOU_TOKEN = re.compile(r"(.*?)mask_decoder\.iou_token\.weight")


class ImageEncoder(nn.Module):
    """A trunk as `Sam` wants it: one tensor from an image.

    Args:
        variant: a row of the registry, such as "sam-vit_b".
        image_size: side of the square image in pixels, a multiple of 16.
        early: give the first global block's output, too, which SAM-HQ's decoder looks at.
    """

    def __init__(self, variant: str, image_size: int = IMAGE_SIZE, early: bool = False):
        super().__init__()
        self.variant = variant
        self.img_size = image_size
        self.early = early
        self.trunk = ROWS[variant].build()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), H and W multiples of 16 -> the image embedding (B, 256, H/16, W/16).

        With `early` its channels are followed by the early features': (B, 256 + width, H/16, W/16).
        """
        taps = [tap.to(x.dtype) for tap in self.trunk(x.to(next(self.trunk.parameters()).dtype))]  # may be rounded
        return torch.cat([taps[-1], taps[0]], dim=1) if self.early else taps[-1].contiguous()


class NoMaskDecoder(WeightsError):
    """A checkpoint holds SAM's image encoder alone."""


class SamState(NamedTuple):
    """A whole SAM's tensors by part, each under segment-anything's names without the part's own."""

    variant: str
    trunk: dict[str, Tensor]
    prompt_encoder: dict[str, Tensor]
    mask_decoder: dict[str, Tensor]

    @property
    def is_hq(self) -> bool:
        return HQ_TOKEN in self.mask_decoder


def build_sam(
    source: str | Path, variant: str | None = None, *, image_size: int = IMAGE_SIZE, hq_token_only: bool = False
) -> Sam:
    """SAM with this package's image encoder: the numbers of segment-anything's own, in less time.

    Args:
        source: a whole model's checkpoint as segment-anything, MobileSAM, MedSAM, micro-sam, SAM-HQ or transformers
            publish it, or "sa-1b" for the published weights from the hub.
        variant: a row of the registry, such as "sam-vit_b"; None: the file's own. "sa-1b" needs one.
        image_size: side in pixels, a multiple of 16, that the image's longest side is resized to; SAM's is 1024.
        hq_token_only: of SAM-HQ: answer with the mask of its own token alone, not with its sum with SAM's mask.
            `sam.mask_decoder.hq_token_only` may be set at any time.

    Returns:
        The model in evaluation mode, on the CPU.

    Raises:
        ConfigError: an unknown variant, or a size that is no multiple of 16.
        WeightsError: the weights cannot be had, are of another variant, lack tensors or have some too many, or are not
            SAM-HQ's although `hq_token_only` is asked for.
    """
    if variant is not None and variant not in ROWS:
        raise ConfigError(f"unknown variant '{variant}'{suggestion(variant, ROWS)}")
    if image_size < STRIDE or image_size % STRIDE:
        raise ConfigError(f"image_size must be a multiple of {STRIDE}, got {image_size}")
    if not is_published(source):
        path = Path(source)
    elif variant is not None:
        path = fetch(variant, True, "give the file of a whole SAM's checkpoint instead", str(source))
    else:
        raise ConfigError(f'build_sam("{source}") needs a variant: one of {", ".join(ROWS)}')
    state = sam_state(path, variant)
    if hq_token_only and not state.is_hq:
        raise WeightsError(f"{source}: hq_token_only is for weights of SAM-HQ, but these are plain SAM's: no hf_token")
    return sam_of(state, image_size, hq_token_only)


def sam_of(state: SamState, image_size: int = IMAGE_SIZE, hq_token_only: bool = False) -> Sam:
    """The model of a checkpoint's tensors, in evaluation mode."""
    sam = empty_sam(state.variant, image_size, hq=state.is_hq)
    sam.image_encoder.trunk.load_state_dict(state.trunk)
    sam.prompt_encoder.load_state_dict(state.prompt_encoder)
    sam.mask_decoder.load_state_dict(state.mask_decoder)
    if state.is_hq:
        sam.mask_decoder.hq_token_only = hq_token_only
    return sam


def empty_sam(variant: str, image_size: int = IMAGE_SIZE, hq: bool = False) -> Sam:
    """SAM, or SAM-HQ, with random weights, in evaluation mode."""
    encoder = ImageEncoder(variant, image_size, early=hq)
    if hq and "sam-hq" not in encoder.trunk.sam_decoders:
        raise WeightsError(f"SAM-HQ's decoder needs a ViT of SAM's, not {variant} (Light HQ-SAM is not supported)")
    early_channels = encoder.trunk.channels[0] if hq else None
    return Sam(encoder, *prompt_and_mask_decoder(image_size, early_channels)).eval()


def prompt_and_mask_decoder(
    image_size: int = IMAGE_SIZE, early_channels: int | None = None
) -> tuple[PromptEncoder, MaskDecoder]:
    """segment-anything's prompt encoder for images of `image_size` pixels a side, and its mask decoder, both random.

    With `early_channels`, those of the encoder's early features, the decoder is SAM-HQ's.
    """
    tokens = image_size // STRIDE
    prompt_encoder = PromptEncoder(
        embed_dim=EMBEDDING,
        image_embedding_size=(tokens, tokens),
        input_image_size=(image_size, image_size),
        mask_in_chans=16,
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=EMBEDDING, mlp_dim=2048, num_heads=8)
    if early_channels is None:
        return prompt_encoder, MaskDecoder(transformer_dim=EMBEDDING, transformer=transformer)
    return prompt_encoder, MaskDecoderHQ(
        early_channels=early_channels, transformer_dim=EMBEDDING, transformer=transformer
    )


def sam_state(path: str | Path, variant: str | None = None) -> SamState:
    """The parts of a whole SAM's checkpoint, complete.

    The layouts are segment-anything's (`image_encoder.`, `prompt_encoder.`, `mask_decoder.`; also MobileSAM's, MedSAM's
    and SAM-HQ's), the same behind a prefix (micro-sam's training states), and transformers'.

    Args:
        path: the file.
        variant: a row of the registry that it must be of; None: the one it is of.

    Raises:
        WeightsError: the file is missing, damaged, no SAM checkpoint, of another variant, without a mask decoder, or
            tensors of one of the parts are missing, left over or of another shape.
    """
    state = read_checkpoint(Path(path))
    try:
        variant = variant or variant_of(state)
        found = _in_our_names(state)
        with torch.device("meta"):  # names and shapes alone
            like = empty_sam(variant, hq=f"mask_decoder.{HQ_TOKEN}" in found)
        parts = {part: _part(part, found, getattr(like, part)) for part in ("prompt_encoder", "mask_decoder")}
        return SamState(variant, trunk_state(state, variant, like.image_encoder.trunk), **parts)
    except WeightsError as error:
        raise type(error)(f"{path}: {error}") from None


def _in_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the prompt encoder and the mask decoder in segment-anything's names."""
    prefixes = {match[1] for name in state if (match := IOU_TOKEN.fullmatch(name))}
    if len(prefixes) != 1:
        raise NoMaskDecoder("it holds no mask decoder, only an image encoder; a whole SAM's checkpoint is needed here")
    prefix = prefixes.pop()
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if SHARED_POSITIONS in found:
        found.setdefault(transformers_name(POSITIONS), found[SHARED_POSITIONS])
    if "mask_decoder.iou_prediction_head.proj_in.weight" in found:
        with torch.device("meta"):
            parts = nn.ModuleDict(zip(("prompt_encoder", "mask_decoder"), prompt_and_mask_decoder()))
        ours = {transformers_name(name): name for name in parts.state_dict()}
        found = {ours.get(name, name): tensor for name, tensor in found.items()}
    return found


def _part(part: str, found: Mapping[str, Tensor], like: nn.Module) -> dict[str, Tensor]:
    """What of ``found`` the module ``like`` is made of, under its own names; WeightsError unless it fits exactly."""
    own = {name.removeprefix(f"{part}."): value for name, value in found.items() if name.startswith(f"{part}.")}
    expected = like.state_dict()
    missing = [name for name in expected if name not in own]
    surplus = [name for name in own if name not in expected]
    if missing or surplus:
        faults = [listed("lacks", missing), listed("has the unknown", surplus)]
        raise WeightsError(f"its {part} " + " and ".join(filter(None, faults)))
    for name, value in own.items():
        if value.shape != expected[name].shape:
            raise WeightsError(f"{part}.{name} has shape {tuple(value.shape)}, expected {tuple(expected[name].shape)}")
    return own
