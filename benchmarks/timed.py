"""Time: of a call, and of a network whoever calls it."""

import time
from collections.abc import Callable

import torch
from torch import nn


def timed(call: Callable[[], object]) -> float:
    """Seconds of ``call()``, with what it left to a GPU."""
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


class NetworkTime:
    """The ``seconds`` spent in the forward passes of ``network``."""

    def __init__(self, network: nn.Module):
        self.seconds = self._start = 0.0
        network.register_forward_pre_hook(self._begin)
        network.register_forward_hook(self._end)

    def _begin(self, *_: object) -> None:
        wait()
        self._start = time.perf_counter()

    def _end(self, *_: object) -> None:
        wait()
        self.seconds += time.perf_counter() - self._start


def wait() -> None:
    """Until a GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
