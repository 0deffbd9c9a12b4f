"""The optimiser of a run and its learning rate."""

import math
from collections.abc import Callable

import torch
from torch import nn

from samseg.models.trainable import parameter_groups
from samseg.runs.config.schema import TrainConfig


def optimizer_for(model: nn.Module, settings: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what of the model learns, each part at its own rate."""
    names = ("lr", "encoder_lr", "pyramid_lr", "weight_decay", "layer_decay")
    return torch.optim.AdamW(parameter_groups(model, **{name: getattr(settings, name) for name in names}))


def warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[float], float]:
    """The learning rate's factor at a step: up in a line to 1 over ``warmup_steps``, then down a cosine to 0."""

    def factor(step: float) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return (1 + math.cos(math.pi * done)) / 2

    return factor
