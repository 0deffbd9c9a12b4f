"""Large images in overlapping tiles: where they lie, and how their answers become one. Tensors only, no files.

What is averaged where tiles overlap is probabilities, not logits: a probability is bounded, so a tile that is sure of
something wrong at its edge, where it sees little context, counts for no more than its weight; logits are not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.common.errors import InputError


@dataclass(frozen=True)
class TilePlan:
    """Square tiles over an image, ``tile`` px a side, neighbours sharing ``overlap`` px or more.

    Every pixel is covered. The last tile of a row or column is shifted back to end at the border; along a side shorter
    than a tile there is one, which reaches beyond the image (its reader pads right and bottom).
    """

    height: int
    width: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.tile:
            raise InputError(f"overlap of {self.tile} px tiles must be 0 to {self.tile - 1} px, got {self.overlap}")

    @cached_property
    def tops(self) -> list[int]:
        return _starts(self.height, self.tile, self.overlap)

    @cached_property
    def lefts(self) -> list[int]:
        return _starts(self.width, self.tile, self.overlap)

    @property
    def windows(self) -> list[tuple[int, int]]:
        """(top, left) of every tile, row by row."""
        return [(top, left) for top in self.tops for left in self.lefts]

    @property
    def inside(self) -> tuple[int, int]:
        """(h, w) of a tile's part within the image; beyond it lies padding."""
        return min(self.tile, self.height), min(self.tile, self.width)

    def weighted(self, row: int, column: int, answer: Tensor) -> Tensor:
        """What a tile adds to the image: its ``answer`` (C, tile, tile), cut to `inside` and weighted, (C, h, w).

        The tile is the one at ``tops[row]`` and ``lefts[column]``. A pixel's weight is the product of its row's and its
        column's; over the tiles, weights add up to 1 on each pixel of the image.
        """
        high, wide = self.inside
        weight = torch.outer(self._row_weights[row, :high], self._column_weights[column, :wide])
        return answer[:, :high, :wide] * weight.to(answer.device)

    @cached_property
    def _row_weights(self) -> Tensor:
        return _weights(self.tops, self.height, self.tile, self.overlap)

    @cached_property
    def _column_weights(self) -> Tensor:
        return _weights(self.lefts, self.width, self.tile, self.overlap)


def blended_rows(
    plan: TilePlan, read: Callable[[int, int], Tensor], predict: Callable[[Tensor], Tensor], batch: int = 1
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, probabilities (C, len(rows), W) float32) from the top of the image to its bottom, without gaps.

    ``read(top, left)`` gives the network's input (3, tile, tile) for a window; ``predict`` maps (B, 3, tile, tile) to
    logits (B, C, tile, tile), ``batch`` tiles at a time. Rows are handed out as soon as no later tile touches them, so
    that C * tile * W floats are held, on the device of the logits, however high the image is.
    """
    answers = _answers(plan, read, predict, batch)
    high, wide = plan.inside
    band = None
    for row, (top, stop) in enumerate(zip(plan.tops, [*plan.tops[1:], plan.height])):
        # answers last: zip stops before it takes one too many from it
        for column, (left, answer) in enumerate(zip(plan.lefts, answers)):
            if band is None:
                band = answer.new_zeros(len(answer), high, plan.width)
            band[:, :, left : left + wide] += plan.weighted(row, column, answer)
        done = stop - top
        yield slice(top, stop), band[:, :done]
        band = F.pad(band[:, done:], (0, 0, 0, done))


def _answers(plan: TilePlan, read: Callable, predict: Callable, batch: int) -> Iterator[Tensor]:
    """Each tile's probabilities (C, tile, tile), in the order of ``plan.windows``."""
    windows = iter(plan.windows)
    while some := list(islice(windows, batch)):
        yield from predict(torch.stack([read(*window) for window in some])).float().softmax(dim=1)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def _weights(starts: list[int], length: int, tile: int, overlap: int) -> Tensor:
    """(len(starts), tile): distance to the tile's edge in px, at most ``overlap``, over its sum for all tiles."""
    offsets = torch.arange(tile)
    distance = torch.minimum(offsets + 1, tile - offsets).clamp(max=max(overlap, 1)).double()
    total = torch.zeros(max(length, tile), dtype=torch.float64)
    for start in starts:
        total[start : start + tile] += distance
    return torch.stack([distance / total[start : start + tile] for start in starts]).float()
