"""The eight views of an image that flips and quarter turns give (the symmetries of the square, D4)."""

from collections.abc import Callable

import numpy as np

# Ordered so that the first 1, 2, 4 and 8 make sense alone: as it is, mirrored, seen from the other side, turned.
VIEWS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda array: array,
    lambda array: array[:, ::-1],
    lambda array: array[::-1],
    lambda array: array[::-1, ::-1],
    lambda array: np.rot90(array),
    lambda array: np.rot90(array, 3),
    lambda array: array.swapaxes(0, 1),
    lambda array: np.rot90(array, 2).swapaxes(0, 1),
)
STREAM = 8  # sets the draw of a view apart from whatever else is drawn for an item


def apply_view(array: np.ndarray, view: int) -> np.ndarray:
    """An image (H, W, 3) or a mask (H, W) in one of `VIEWS`; quarter turns swap H and W. The first is the array."""
    return np.ascontiguousarray(VIEWS[view](array))


def drawn_view(views: int, seed: int, epoch: int, index: int) -> int:
    """One of the first ``views``, each as likely, for item ``index`` in ``epoch``."""
    return int(np.random.default_rng([seed, epoch, index, STREAM]).integers(views)) if views > 1 else 0
