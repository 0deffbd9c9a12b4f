"""The processes that train together, as `accelerate launch` or torchrun started them."""

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from samseg.config import TrainConfig
from samseg.errors import ConfigError


def processes() -> PartialState:
    """The processes of this run. Without a GPU accelerate must be told so, or each of several would train alone."""
    return PartialState(cpu=not torch.accelerator.is_available())


def accelerator_for(settings: TrainConfig) -> Accelerator:
    """Device, processes and precision of a run; ConfigError for a precision that the device does not have."""
    processes()
    AcceleratorState._reset_state()  # of an earlier run in this process: it would hold us to that run's precision
    try:
        accelerator = Accelerator(mixed_precision="no" if settings.precision == "fp32" else settings.precision)
    except ValueError as error:
        raise ConfigError(f"train.precision={settings.precision} is not possible here: {error}") from error
    if settings.precision == "fp16" and accelerator.scaler is None:  # accelerate would train in fp32 and not say so
        raise ConfigError(f"train.precision=fp16 needs a GPU, this is the {accelerator.device}; set it to bf16 or fp32")
    return accelerator
