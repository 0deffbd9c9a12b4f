"""How a raster is divided: one plan of tiles over the whole, and the parts in which it is computed and stored.

A part is a rectangle of the output, computed from all tiles of the plan that touch it. Tiles are added in the plan's
order, so a pixel is the same sum of the same numbers whichever part, process or machine computes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from samseg.common.errors import InputError
from samseg.predict.tiling import TilePlan

BLOCK = 512  # of the output, pixels a side; parts are made of whole blocks
PART_BYTES = 2**26  # of a part's probabilities in float32
LARGEST = 4096  # pixels a side of a part


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    def overlap(self, other: "Box") -> "Box | None":
        """The pixels that both cover; None: they do not touch."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height, width = min(self.bottom, other.bottom) - top, min(self.right, other.right) - left
        return Box(top, left, height, width) if height > 0 and width > 0 else None

    def within(self, outer: "Box") -> tuple[slice, slice]:
        """Rows and columns of this box in an array of ``outer``."""
        top, left = self.top - outer.top, self.left - outer.left
        return slice(top, top + self.height), slice(left, left + self.width)


class Tile(NamedTuple):
    """A tile by its row and column in the plan."""

    row: int
    column: int


@dataclass(frozen=True)
class MapPlan:
    """The tiles of a raster (H, W) and its parts, ``side`` pixels a side, numbered row by row."""

    tiles: TilePlan
    side: int

    @classmethod
    def of(cls, shape: tuple[int, int], tile: int, overlap: int, classes: int) -> "MapPlan":
        """Parts as large as fit in `PART_BYTES` for so many ``classes``."""
        side = int((PART_BYTES / (4 * classes)) ** 0.5) // BLOCK * BLOCK
        return cls(TilePlan(*shape, tile, overlap), max(BLOCK, min(side, LARGEST)))

    @property
    def shape(self) -> tuple[int, int]:
        return self.tiles.height, self.tiles.width

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of parts."""
        return -(-self.tiles.height // self.side), -(-self.tiles.width // self.side)

    @property
    def parts(self) -> int:
        return self.grid[0] * self.grid[1]

    def part(self, number: int) -> Box:
        row, column = divmod(number, self.grid[1])
        top, left = row * self.side, column * self.side
        return Box(top, left, min(self.side, self.shape[0] - top), min(self.side, self.shape[1] - left))

    def tile(self, tile: Tile) -> Box:
        """The pixels of the raster that a tile covers: smaller than a tile where the raster is."""
        return Box(self.tiles.tops[tile.row], self.tiles.lefts[tile.column], *self.tiles.inside)

    def tiles_of(self, part: Box) -> Iterator[Tile]:
        """The tiles that touch a part, in the plan's order."""
        rows = _touching(self.tiles.tops, self.tiles.tile, part.top, part.bottom)
        columns = _touching(self.tiles.lefts, self.tiles.tile, part.left, part.right)
        return (Tile(row, column) for row in rows for column in columns)

    def parts_of(self, tile: Tile) -> Iterator[int]:
        """The numbers of the parts that a tile touches."""
        box = self.tile(tile)
        for row in range(box.top // self.side, -(-box.bottom // self.side)):
            for column in range(box.left // self.side, -(-box.right // self.side)):
                yield row * self.grid[1] + column

    def shard(self, index: int, count: int) -> range:
        """The numbers of the parts of the ``index``-th (from 1) of ``count`` shards: neighbours, about as many each."""
        if not 1 <= index <= count:
            raise InputError(f"a shard is one of 1/{count} to {count}/{count}, got {index}/{count}")
        return range((index - 1) * self.parts // count, index * self.parts // count)


def _touching(starts: list[int], length: int, first: int, last: int) -> range:
    """Which of ascending ``starts`` begin something of that ``length`` that overlaps ``first`` .. ``last``."""
    touching = [index for index, start in enumerate(starts) if start < last and start + length > first]
    return range(touching[0], touching[-1] + 1)
