"""Losses that a network's own modules ask for in training, such as the balance of a mixture's experts."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_collected: list[Tensor] | None = None


@contextmanager
def auxiliary_losses() -> Iterator[list[Tensor]]:
    """Collect the scalar losses of the forward passes inside the block, to be added to the training loss.

    Outside such a block nothing is kept: not of inference, and not of the second forward pass that gradient
    checkpointing makes during the backward pass.
    """
    global _collected
    before, _collected = _collected, []
    try:
        yield _collected
    finally:
        _collected = before


def add_auxiliary_loss(loss: Tensor) -> None:
    """Hand in a loss from a module's forward pass; where nobody collects, it is dropped."""
    if _collected is not None:
        _collected.append(loss)
