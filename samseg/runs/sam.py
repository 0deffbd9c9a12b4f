"""The whole SAM of a run, or of a checkpoint."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from samseg.common.errors import InputError, did_you_mean
from samseg.data.preprocess import Preprocessing
from samseg.encoders.registry import ROWS
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.decoder_lora import merge_attention
from samseg.models.sam.files import build_sam
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import is_run
from samseg.runs.hub.pull import hub_name
from samseg.runs.load import load_run


def load_sam(source: str | Path, variant: str | None = None) -> PromptableSam:
    """The whole SAM of a run that trained one (a folder, hub:USER/NAME), or of whatever `build_sam` takes.

    Raises InputError for a run without SAM's decoders, and as `load_run` and `build_sam` do.
    """
    if hub_name(source) is None and not is_run(Path(source)):
        return build_sam(source, variant)
    model, config = load_run(source)
    sam = tuned_sam(model, config.data.preprocessing)
    if sam is None:
        raise InputError(f"{source} trained no SAM with prompt encoder and mask decoder; take a run of task=promptable")
    return sam


def sam_named(source: str, option: str) -> PromptableSam:
    """`load_sam` what an ``option`` of a command names, or a variant with its published weights, such as sam-vit_b."""
    if source in ROWS:
        return load_sam("pretrained", source)
    if hub_name(source) is None and not Path(source).exists():
        hint = did_you_mean(source, ROWS) or f" and none of {', '.join(ROWS)}"
        raise InputError(f"{option} {source}: no such file{hint}")
    return load_sam(source)


def tuned_sam(model: nn.Module, preprocessing: Preprocessing) -> PromptableSam | None:
    """A run's model if it is a whole SAM, ready for prompts, with LoRA in its mask decoder merged; else None."""
    if not isinstance(model, PromptableSam):
        return None
    merge_attention(model.mask_decoder)
    return _normalising_as(model.eval(), preprocessing)


def base_sam(config: RunConfig) -> PromptableSam | None:
    """SAM as the run found it, at the size it works at; None if it did not start from SAM's weights.

    Raises WeightsError if the weights are gone, or hold the image encoder alone.
    """
    if config.model.encoder not in ROWS or config.model.weights is None:
        return None
    preprocessing = config.data.preprocessing
    sam = build_sam(config.model.weights, config.model.encoder, image_size=preprocessing.size)
    return _normalising_as(sam, preprocessing)


def _normalising_as(sam: PromptableSam, preprocessing: Preprocessing) -> PromptableSam:
    """The model, with the run's mean and standard deviation in place of SAM's."""
    mean, std = preprocessing.mean, preprocessing.std
    if len(mean) != 3:
        raise InputError(f"SAM's predictor takes images of three bands, but the run was trained on {len(mean)}")
    sam.image_transform = replace(sam.image_transform, mean=tuple(mean), std=tuple(std))
    return sam
