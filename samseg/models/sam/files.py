"""Whole SAMs from files: whatever their authors and others publish, recognised by their tensors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samseg.common.errors import ConfigError, WeightsError, suggestion
from samseg.encoders.fetch import fetch, is_published
from samseg.encoders.registry import ROWS
from samseg.encoders.weights import check_tensors, read_checkpoint, trunk_state, variant_of
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.names import POSITIONS, SHARED_POSITIONS, transformers_name
from samseg.models.sam.sam1 import Sam1
from samseg.models.sam.sam2 import POINTS, Sam2
from samseg.models.sam.sam3 import Sam3, with_trackers_neck

HQ_TOKEN = "hf_token.weight"
IOU_TOKEN = re.compile(r"(.*?)(?:sam_)?mask_decoder\.iou_token\.weight")
VIDEO = ("mem", "maskmem", "no_mem_pos", "no_obj", "mask_downsample", "obj_ptr")
FAMILIES = {"sam": Sam1, "sam2": Sam2, "sam3": Sam3}  # by the decoder that an encoder serves


class NoMaskDecoder(WeightsError):
    """A checkpoint holds SAM's image encoder alone."""


class SamState(NamedTuple):
    """A whole SAM's tensors by part, each under segment-anything's names without the part's own."""

    variant: str
    trunk: dict[str, Tensor]
    prompt_encoder: dict[str, Tensor]
    mask_decoder: dict[str, Tensor]
    video: dict[str, Tensor]  # SAM 2's memory, by sam2's names

    @property
    def is_hq(self) -> bool:
        return HQ_TOKEN in self.mask_decoder


def build_sam(
    source: str | Path, variant: str | None = None, *, image_size: int | None = None, hq_token_only: bool = False
) -> PromptableSam:
    """SAM with this package's image encoder: the numbers of its authors' own, in less time.

    Args:
        source: a whole model's checkpoint as segment-anything, MobileSAM, MedSAM, micro-sam, SAM-HQ or transformers
            publish it, SAM 2's or 2.1's by sam2 or transformers, SAM 3's, of which the tracker is taken, by sam3 or
            transformers, or "pretrained" for the published weights.
        variant: a row of the registry, such as "sam-vit_b"; None: the file's own. "pretrained" needs one.
        image_size: side of the network's square in pixels, a multiple of 16, of SAM 2's 32, of SAM 3's 14; None:
            their own, 1024 or SAM 3's 1008.
        hq_token_only: of SAM-HQ: answer with the mask of its own token alone, not with its sum with SAM's mask.
            `sam.mask_decoder.hq_token_only` may be set at any time.

    Returns:
        The model in evaluation mode, on the CPU; of SAM's first generation a `segment_anything.modeling.Sam`, too.

    Raises:
        ConfigError: an unknown variant, or a size that the encoder cannot take.
        WeightsError: the weights cannot be had, are of another variant, lack tensors or have some too many, or are not
            SAM-HQ's although `hq_token_only` is asked for.
    """
    if variant is not None and variant not in ROWS:
        raise ConfigError(f"unknown variant '{variant}'{suggestion(variant, ROWS)}")
    if not is_published(source):
        path = Path(source)
    elif variant is not None:
        family_of(variant)  # before a large file is fetched for nothing
        path = fetch(variant, True, "give the file of a whole SAM's checkpoint instead", str(source))
    else:
        raise ConfigError(f'build_sam("{source}") needs a variant: one of {", ".join(ROWS)}')
    state = sam_state(path, variant)
    if hq_token_only and not state.is_hq:
        raise WeightsError(f"{source}: hq_token_only is for weights of SAM-HQ, but these are plain SAM's: no hf_token")
    sam = empty_sam(state.variant, image_size, hq=state.is_hq)
    load_sam(sam, state)
    if state.is_hq:
        sam.mask_decoder.hq_token_only = hq_token_only
    return sam


def empty_sam(variant: str, image_size: int | None = None, hq: bool = False, in_channels: int = 3) -> PromptableSam:
    """The SAM that an encoder is of, or SAM-HQ, with random weights, in evaluation mode.

    Raises WeightsError for an encoder of which there is none, ConfigError for a size that the encoder cannot take.
    """
    row, family = ROWS[variant], family_of(variant)
    image_size, multiple = row.image_size if image_size is None else image_size, row.outline.multiple
    if image_size < multiple or image_size % multiple:
        raise ConfigError(f"image_size must be a multiple of {multiple} for {variant}, got {image_size}")
    return family.empty(variant, image_size, hq, in_channels).eval()


def family_of(variant: str) -> type[PromptableSam]:
    """The kind of SAM that an encoder is of; WeightsError for an encoder of which there is none."""
    for name, family in FAMILIES.items():
        if name in ROWS[variant].outline.sam_decoders:
            return family
    raise WeightsError(f"{variant} has no mask decoder for prompts in samseg; SAM's, SAM 2's and SAM 3's have")


def load_sam(sam: PromptableSam, state: SamState) -> None:
    """Load a checkpoint's tensors; a plain mask decoder takes what it needs of SAM-HQ's."""
    sam.encoder.load_state_dict(state.trunk)
    sam.prompt_encoder.load_state_dict(state.prompt_encoder)
    sam.mask_decoder.load_state_dict({name: state.mask_decoder[name] for name in sam.mask_decoder.state_dict()})
    sam.video = state.video


def sam_state(path: str | Path, variant: str | None = None) -> SamState:
    """The parts of a whole SAM's checkpoint, complete.

    The layouts are segment-anything's (`image_encoder.`, `prompt_encoder.`, `mask_decoder.`; also MobileSAM's, MedSAM's
    and SAM-HQ's), sam2's (`sam_prompt_encoder.` ...), both also behind a prefix (micro-sam's training states; sam3's
    `tracker.`), and transformers'.

    Args:
        path: the file.
        variant: a row of the registry that it must be of; None: the one it is of.

    Raises:
        WeightsError: the file is missing, damaged, no SAM checkpoint, of another variant, without a mask decoder, or
            tensors of one of the parts are missing, left over or of another shape.
    """
    state = with_trackers_neck(read_checkpoint(Path(path)))
    try:
        variant = variant or variant_of(state)
        with torch.device("meta"):  # names and shapes alone
            like = empty_sam(variant, hq=any(name.endswith(f"mask_decoder.{HQ_TOKEN}") for name in state))
        prefixes = {match[1] for name in state if (match := IOU_TOKEN.fullmatch(name))}
        if len(prefixes) != 1:
            raise NoMaskDecoder(
                "it holds no tracker, the part of SAM 3 that answers points and boxes; take the whole sam3.pt"
                if like.format == "sam3"
                else "it holds no mask decoder, only an image encoder; a whole SAM is needed here"
            )
        prefix = prefixes.pop()
        trunk = trunk_state(state, variant, like.encoder.trunk)
        found = _in_our_names(state, prefix, like)
        parts = {part: _part(part, found, getattr(like, part)) for part in ("prompt_encoder", "mask_decoder")}
        by_sam2 = like.format == "sam2" and f"{prefix}no_mem_embed" in state
        video = {name: tensor for name, tensor in found.items() if by_sam2 and name.startswith(VIDEO)}
        return SamState(variant, trunk, **parts, video=video)
    except WeightsError as error:
        raise type(error)(f"{path}: {error}") from None


def _in_our_names(state: Mapping[str, Tensor], prefix: str, sam: PromptableSam) -> dict[str, Tensor]:
    """A checkpoint's tensors, but for the trunk, in the names that they have in ``sam``."""
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if SHARED_POSITIONS in found:
        found.setdefault(transformers_name(POSITIONS), found[SHARED_POSITIONS])
    if len(labels := found.get(f"{POINTS}.weight", ())) == 4:
        del found[f"{POINTS}.weight"]
        found |= {f"{POINTS}.{index}.weight": label[None] for index, label in enumerate(labels)}
    by_transformers = "mask_decoder.iou_prediction_head.proj_in.weight" in found
    theirs = sam.transformers_name if by_transformers else sam.published_name
    parts = {"prompt_encoder": sam.prompt_encoder, "mask_decoder": sam.mask_decoder}
    ours = {theirs(f"{part}.{name}"): f"{part}.{name}" for part in parts for name in parts[part].state_dict()}
    return {ours.get(name, name.removeprefix("sam_")): tensor for name, tensor in found.items()}


def _part(part: str, found: Mapping[str, Tensor], like: nn.Module) -> dict[str, Tensor]:
    """What of ``found`` the module ``like`` is made of, under its own names; WeightsError unless it fits exactly."""
    own = {name.removeprefix(f"{part}."): value for name, value in found.items() if name.startswith(f"{part}.")}
    check_tensors(own, like.state_dict(), part, prefix=f"{part}.")
    return own
