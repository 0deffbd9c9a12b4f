"""The parts of a map, computed: a thread reads, the network answers, a thread writes."""

import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.raster import Raster
from samseg.maps.disk import written
from samseg.maps.parts.plan import Box, MapPlan, Tile
from samseg.maps.parts.store import PartStore

T = TypeVar("T")
AHEAD = 3  # tiles that wait for the network
END = object()


class TileJob(NamedTuple):
    """A tile to run: the network's input (C, tile, tile)."""

    tile: Tile
    pixels: Tensor


class PartJob(NamedTuple):
    """A part all of whose tiles have been run: which, and its valid pixels (h, w); None: it has none."""

    number: int
    tiles: list[Tile]
    valid: np.ndarray | None
    damaged: int


def compute_parts(
    store: PartStore,
    numbers: Sequence[int],
    open_raster: Callable[[], RasterFile],
    view: Callable[[Raster], Tensor],
    network: Callable[[Tensor], Tensor],
    *,
    batch: int = 1,
    within: Callable[[Box], np.ndarray] | None = None,
) -> Iterator[int]:
    """Write those parts of ``store`` that are missing; yield the number of each once it is on disk.

    Tiles of which no pixel of a part is valid are not run for it.

    Args:
        numbers: of the parts, ascending.
        open_raster: called in the thread that reads.
        view: a tile's raster (C, h, w) -> the network's input (C, tile, tile).
        network: inputs (B, C, tile, tile) -> logits (B, K, tile, tile); always given ``batch`` tiles, the last ones
            repeated, so that its numbers do not depend on how many are left.
        within: which pixels (h, w) of a box are wanted; None: all.
    """
    plan, edges = store.plan, Edges(store.folder)
    todo = store.missing(numbers)
    left = set(todo)
    columns = plan.grid[1]
    writing = None
    jobs = ahead(_jobs(plan, todo, open_raster, view, edges, within), AHEAD + batch)
    with ThreadPoolExecutor(1) as writer:
        try:
            current = 0  # index in todo
            for job, answer in _answered(jobs, network, batch):
                row = todo[current] // columns
                if isinstance(job, TileJob):
                    box = plan.tile(job.tile)
                    weighted = plan.tiles.weighted(*job.tile, answer)
                    for number in plan.parts_of(job.tile):
                        if number in left:
                            rows, cols = plan.part(number).overlap(box).within(box)
                            edges.keep(number, job.tile, weighted[:, rows, cols], near=number // columns == row)
                    continue
                if writing is not None:
                    yield writing.result()
                # Added after it is written: the probabilities of two parts are much memory.
                writing = writer.submit(_write, store, job, _added(store, job, edges))
                edges.drop(job.number)
                left.discard(job.number)
                current += 1
            if writing is not None:
                yield writing.result()
        finally:
            jobs.close()


def ahead(items: Generator[T, None, None], depth: int) -> Iterator[T]:
    """Yield what ``items`` yields, which runs in a thread, at most ``depth`` items ahead; what it raises is raised.

    Closing this generator waits until the thread has ended the item that it is at.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not END:
                waiting.append(thread.submit(next, items, END))
                yield item
        finally:
            for one in waiting:
                one.cancel()
            thread.submit(items.close)  # there, for what it holds open belongs to that thread


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


def _jobs(plan: MapPlan, todo: list[int], open_raster, view, edges: Edges, within) -> Iterator[TileJob | PartJob]:
    """For each part the tiles it needs that no part before it has had, then the part."""
    scheduled: set[Tile] = set()
    with gdal(), open_raster() as raster:
        for number in todo:
            part = plan.part(number)
            valid = None if within is None else within(part)
            if valid is None or valid.any():
                valid = raster.valid(*part) if valid is None else valid & raster.valid(*part)
            needed = []
            for tile in plan.tiles_of(part) if valid.any() else ():
                if not valid[plan.tile(tile).overlap(part).within(part)].any():
                    continue
                needed.append(tile)
                if tile not in scheduled and not edges.stored(number, tile):
                    scheduled.add(tile)
                    yield TileJob(tile, view(raster.read(*plan.tile(tile))))
            yield PartJob(number, needed, valid if needed else None, raster.damaged_in(*part))


def _answered(jobs, network, batch: int) -> Iterator[tuple[TileJob | PartJob, Tensor | None]]:
    """The jobs in their order, tiles with their probabilities (K, tile, tile)."""
    waiting: list[TileJob | PartJob] = []

    def run():
        inputs = [job.pixels for job in waiting if isinstance(job, TileJob)]
        answers = iter(())
        if inputs:
            logits = network(torch.stack(inputs + inputs[-1:] * (batch - len(inputs))))
            answers = iter(logits.softmax(dim=1).cpu())
        for job in waiting:
            yield job, next(answers) if isinstance(job, TileJob) else None
        waiting.clear()

    for job in jobs:
        waiting.append(job)
        tiles = sum(isinstance(job, TileJob) for job in waiting)
        if tiles in (0, batch):
            yield from run()
    yield from run()


def _added(store: PartStore, job: PartJob, edges: Edges) -> Tensor | None:
    """The part's blended probabilities (K, h, w): its tiles' weighted answers, added in the plan's order."""
    if job.valid is None:
        return None
    part = store.plan.part(job.number)
    total = torch.zeros(len(store.classes), part.height, part.width)
    for tile in job.tiles:
        rows, columns = store.plan.tile(tile).overlap(part).within(part)
        total[:, rows, columns] += edges.take(job.number, tile)
    return total


def _write(store: PartStore, job: PartJob, total: Tensor | None) -> int:
    with gdal():
        store.write(job.number, total, job.valid, job.damaged)
    return job.number
