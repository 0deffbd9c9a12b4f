"""From class maps to polygons, a part at a time: areas are traced within parts and joined across their borders.

A part's connected areas are pieces. A piece that touches a border behind which a part has not been seen is open; pieces
of one class that touch each other across a border belong to one area (union-find), which is given out as soon as none
of its pieces is open. So no more is held than the areas that may still grow. Coordinates are whole pixels until the
end, which makes the union of pieces exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import shapely
from rasterio.features import shapes

from samseg.maps.parts.plan import Box
from samseg.maps.parts.store import CERTAIN, NODATA, PartStore


class Area(NamedTuple):
    """A connected area of a class: its polygon in pixels (column, row) of the raster, and its mean probability."""

    index: int
    polygon: shapely.Polygon
    probability: float


@dataclass
class Group:
    """Pieces that belong to one area."""

    index: int  # of the class
    pieces: list[int]
    polygons: list[shapely.Polygon]
    pixels: int
    probability: float  # the sum over the pixels
    open: int  # borders behind which the area may go on


def areas(store: PartStore, skip: int | None = None) -> Iterator[Area]:
    """Every area, connected by edges, of every class but ``skip``; nodata has none. ``store`` keeps the confidence."""
    growing = Growing()
    rows, columns = store.plan.grid
    above: dict[int, np.ndarray] = {}  # by column of parts: the pieces along the last row of the part seen there
    left = None
    for number in range(store.plan.parts):
        row, column = divmod(number, columns)
        box, classes = store.plan.part(number), store.read(number)
        labels, count = labelled(classes, skip)
        pieces = np.where(labels > 0, labels + np.int64(growing.pieces), 0)
        borders = ([pieces[-1]] if row < rows - 1 else []) + ([pieces[:, -1]] if column < columns - 1 else [])
        growing.add(traced(labels, box), classes, labels, count, store.read(number, 2), borders)
        if row:
            growing.join(above[column], pieces[0])
        if column:
            growing.join(left, pieces[:, 0])
        yield from growing.finished()
        above[column], left = pieces[-1].copy(), pieces[:, -1].copy()


def labelled(classes: np.ndarray, skip: int | None = None) -> tuple[np.ndarray, int]:
    """Connected areas (h, w) int32 from 1, 0 for nodata and the class ``skip``, and their number."""
    labels, count = np.zeros(classes.shape, np.int32), 0
    for index in np.flatnonzero(np.bincount(classes.ravel(), minlength=NODATA + 1)[:NODATA]):
        if index != skip:
            mask = classes == index
            of_class, found = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
            labels[mask] = found[mask] + count
            count += of_class - 1
    return labels, count


def traced(labels: np.ndarray, box: Box) -> list[shapely.Polygon]:
    """The outline of each label, in the order of the labels, in pixels of the raster; valid, with its holes."""
    polygons: list[shapely.Polygon | None] = [None] * int(labels.max(initial=0))
    for outline, label in shapes(labels, mask=labels > 0, connectivity=4):
        exterior, *holes = (np.array(ring) + (box.left, box.top) for ring in outline["coordinates"])
        polygons[int(label) - 1] = shapely.Polygon(exterior, holes)
    made = np.array(polygons, object)
    broken = ~shapely.is_valid(made)  # an outline that meets itself at a corner
    made[broken] = shapely.make_valid(made[broken])
    return list(made)


class Growing:
    """The areas that may still grow."""

    def __init__(self) -> None:
        self.pieces = 0  # that have been
        self._root: dict[int, int] = {}  # of each piece of a growing area, by union-find
        self._groups: dict[int, Group] = {}
        self._changed: list[int] = []

    def add(
        self,
        polygons: list[shapely.Polygon],
        classes: np.ndarray,
        labels: np.ndarray,
        count: int,
        confidence: np.ndarray,
        borders: list[np.ndarray],
    ) -> None:
        """Add the pieces of a part. ``borders``: the pieces along its sides behind which parts follow."""
        first = self.pieces + 1
        self.pieces += count
        flat = labels.ravel()
        pixels = np.bincount(flat, minlength=count + 1)
        sums = np.bincount(flat, confidence.ravel(), minlength=count + 1) / CERTAIN
        index = np.zeros(count + 1, int)
        index[flat] = classes.ravel()
        sides = np.zeros(count + 1, int)
        for border in borders:
            sides[np.unique(border[border > 0]) - first + 1] += 1
        for label, polygon in enumerate(polygons, start=1):
            piece = first + label - 1
            self._root[piece] = piece
            self._groups[piece] = Group(
                int(index[label]), [piece], [polygon], int(pixels[label]), float(sums[label]), int(sides[label])
            )
            self._changed.append(piece)

    def join(self, before: np.ndarray, after: np.ndarray) -> None:
        """Join pieces across a border, given its two sides pixel by pixel; ``after`` is that of the part just added."""
        touching = np.unique(np.stack([before, after])[:, (before > 0) & (after > 0)], axis=1)
        for one, other in touching.T.tolist():
            one, other = self._find(one), self._find(other)
            if one != other and self._groups[one].index == self._groups[other].index:
                self._unite(one, other)
        for piece in np.unique(before[before > 0]).tolist():
            root = self._find(piece)
            self._groups[root].open -= 1
            self._changed.append(root)

    def finished(self) -> Iterator[Area]:
        """Yield the areas that are whole since the last call, in the order of their first pieces."""
        roots = {self._find(piece) for piece in self._changed}
        self._changed.clear()
        whole = [self._groups.pop(root) for root in roots if not self._groups[root].open]
        for group in sorted(whole, key=lambda group: min(group.pieces)):
            for piece in group.pieces:
                del self._root[piece]
            polygon = group.polygons[0]
            if len(group.polygons) > 1:
                polygon = shapely.union_all(group.polygons).simplify(0)  # without the corners on the seam
            yield Area(group.index, polygon, group.probability / group.pixels)

    def _find(self, piece: int) -> int:
        while (root := self._root[piece]) != piece:
            self._root[piece] = self._root[root]
            piece = root
        return piece

    def _unite(self, one: int, other: int) -> None:
        large, small = sorted((one, other), key=lambda root: len(self._groups[root].pieces), reverse=True)
        gone, group = self._groups.pop(small), self._groups[large]
        self._root[small] = large
        group.pieces += gone.pieces
        group.polygons += gone.polygons
        group.pixels += gone.pixels
        group.probability += gone.probability
        group.open += gone.open
