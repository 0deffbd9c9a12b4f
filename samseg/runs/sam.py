"""The whole SAM of a run, or of a checkpoint."""

from pathlib import Path

import torch
from segment_anything.modeling import Sam
from torch import nn

from samseg.common.errors import InputError
from samseg.encoders.registry import ROWS
from samseg.models.sam import build_sam
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import is_run
from samseg.runs.hub.pull import hub_name
from samseg.runs.load import load_run


def sam_of(source: str | Path, variant: str | None = None) -> Sam:
    """The whole SAM of a run that trained one (a folder, hub:USER/NAME), or of whatever `build_sam` takes.

    Raises InputError for a run without SAM's decoders, and as `load_run` and `build_sam` do.
    """
    if hub_name(source) is None and not is_run(Path(source)):
        return build_sam(source, variant)
    sam = tuned_sam(*load_run(source))
    if sam is None:
        raise InputError(f"{source} trained no SAM with prompt encoder and mask decoder; take a run of task=promptable")
    return sam


def tuned_sam(model: nn.Module, config: RunConfig) -> Sam | None:
    """The whole SAM in a run's model, which shares its parts; None without prompt encoder and mask decoder."""
    if not hasattr(model, "sam"):
        return None
    return _normalising_as(model.sam().eval(), config)


def base_sam(config: RunConfig) -> Sam | None:
    """SAM as the run found it, at the size it works at; None if it did not start from SAM's weights.

    Raises WeightsError if the weights are gone, or hold the image encoder alone.
    """
    if config.model.encoder not in ROWS or config.model.weights is None:
        return None
    sam = build_sam(config.model.weights, config.model.encoder, image_size=config.data.image_size)
    return _normalising_as(sam, config)


def _normalising_as(sam: Sam, config: RunConfig) -> Sam:
    """The model, with the run's mean and standard deviation in place of SAM's."""
    for name, values in (("pixel_mean", config.data.mean), ("pixel_std", config.data.std)):
        if len(values) != 3:
            raise InputError(f"SAM's predictor takes images of three bands, but the run was trained on {len(values)}")
        sam.register_buffer(name, 255 * torch.tensor(values).reshape(3, 1, 1), persistent=False)
    return sam
