"""The learning rate over a run."""

import math
from collections.abc import Callable


def warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[float], float]:
    """The learning rate's factor at a step: up in a line to 1 over ``warmup_steps``, then down a cosine to 0."""

    def factor(step: float) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return (1 + math.cos(math.pi * done)) / 2

    return factor
