"""Pieces of tiles that are kept for later parts."""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samseg.maps.disk import written
from samseg.maps.parts.plan import Tile


class Edges:
    """Pieces of tiles for parts that come later: for those of the same row of parts in memory, for others on disk.

    Neighbouring parts share the tiles on their border; so each is computed once, and memory does not grow with the
    width of the raster. What is on disk survives a process that was killed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._near: dict[int, dict[Tile, Tensor]] = {}

    def keep(self, part: int, tile: Tile, piece: Tensor, near: bool) -> None:
        """Keep the ``piece`` (C, h, w) of a tile, weighted, that lies in a ``part``."""
        if near:
            self._near.setdefault(part, {})[tile] = piece.clone()  # not a view, which would hold the whole tile
        elif not self.stored(part, tile):
            with written(self._file(part, tile)) as temporary, open(temporary, "wb") as file:
                np.save(file, piece.numpy())

    def stored(self, part: int, tile: Tile) -> bool:
        return self._file(part, tile).is_file()

    def take(self, part: int, tile: Tile) -> Tensor:
        piece = self._near.get(part, {}).get(tile)
        return piece if piece is not None else torch.from_numpy(np.load(self._file(part, tile)))

    def drop(self, part: int) -> None:
        """Forget what was kept for a part, which is done."""
        self._near.pop(part, None)
        shutil.rmtree(self._folder(part), ignore_errors=True)

    def _folder(self, part: int) -> Path:
        return self.folder / f"edges-{part:06d}"

    def _file(self, part: int, tile: Tile) -> Path:
        return self._folder(part) / f"{tile.row}-{tile.column}.npy"
