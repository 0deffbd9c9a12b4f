"""Maps: rasters in windows, with polygons, lines, points or rasters as labels."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samseg.common.errors import ConfigError, InputError, did_you_mean, require
from samseg.data.raster import Raster, Window
from samseg.data.sources.maps_config import MapsConfig
from samseg.data.sources.places import SPLITS
from samseg.data.sources.source import Georeference, Source

if TYPE_CHECKING:
    from samseg.data.formats.georaster import RasterFile
    from samseg.data.formats.vectors import Burner
    from samseg.data.sources.map_labels import RasterLabels, VectorLabels

KEYS = ("image", "labels", "area")  # of an entry
MOSTLY = 0.5  # of a window's pixels must hold data for it to be trained on
HELD_OUT = 0.15  # of a map's windows are for val, and as many for test, with split: blocks


class MapFile(NamedTuple):
    """A raster with what is known of it."""

    path: Path
    shape: tuple[int, int]
    digest: str
    labels: "VectorLabels | RasterLabels | None"
    area: "Burner | None"  # burns 1 inside the area that counts; None: all counts


class Cell(NamedTuple):
    """A window of a map: an image of the source."""

    map: int
    top: int
    left: int
    height: int
    width: int


class MapsSource(Source):
    """Windows of georeferenced rasters, of at most ``data.maps.window`` pixels a side, named STEM_ROW_COLUMN.

    Each pixel of a map lies in one window. Where objects overlap, those of the later class lie on top, and of one class
    those that stand later in the file. Nothing is written; labels are burnt a window at a time. Outside of a map's area
    pixels hold no data. For training, windows of which half or more holds no data are left out, for evaluation those
    that hold none at all.

    Raises InputError for rasters and labels that cannot be read, do not overlap, or lack a coordinate system.
    """

    section = "maps"
    named = True
    objects = True

    def __init__(self, root: str | Path, split: str, settings: MapsConfig):
        super().__init__(root, split, settings)
        from samseg.data.formats.vectors import Burner, read_areas  # rasterio and its kin are an extra
        from samseg.data.sources.map_labels import open_labels

        self._maps: list[MapFile] = []
        found: Counter[str] = Counter()
        for path, labels, area in _entries(root, split, self.settings):
            labels = open_labels(path, labels, self.settings) if labels else None
            with self._opened(path) as raster:
                place, shape, digest = raster.georeference, raster.shape, raster.digest()
            if area is not None:
                polygons = read_areas(area, place.get("crs")).geometries
                area = Burner(polygons, np.ones(len(polygons)), place["transform"])
            self._maps.append(MapFile(path, shape, digest, labels, area))
            if labels is not None:
                found.update(labels.counts)
                self.notes += labels.notes
        order = self.settings.order or []
        self.categories = {name: found[name] for name in [*order, *sorted(found.keys() - set(order))]}
        for one in self._maps:
            if one.labels is not None:
                one.labels.number(list(self.categories))
        self._cells = self._split_into_cells(split)
        if not self._cells:
            raise InputError(f"data.maps: no window of {split} holds data; there are {len(self._maps)} maps")
        self.names = sorted(self._cells)

    @classmethod
    def complete(cls, settings: MapsConfig) -> None:
        if settings.split not in (None, "blocks"):
            raise ConfigError(f"data.maps.split must be null or blocks, got {settings.split!r}")
        if settings.split == "blocks" and (settings.val or settings.test):
            raise ConfigError(
                "data.maps.split=blocks cuts the maps of train; leave out data.maps.val and data.maps.test"
            )
        for split in SPLITS:
            for number, entry in enumerate(getattr(settings, split), start=1):
                where = f"data.maps.{split}, entry {number}"
                if not isinstance(entry, dict) or "image" not in entry:
                    raise ConfigError(f"{where} must be {{image: ..., labels: ..., area: ...}}, got {entry!r}")
                if strange := [key for key in entry if key not in KEYS]:
                    near = did_you_mean(strange[0], KEYS)
                    raise ConfigError(f"{where}: unknown key {strange[0]!r}; there are {', '.join(KEYS)}{near}")
        if settings.window < 1 or settings.gap < 0:
            raise ConfigError(
                f"data.maps.window must be above 0 and gap not below, got {settings.window} and {settings.gap}"
            )
        for key in ("line_width", "point_radius", "resolution"):
            require(f"data.maps.{key}", getattr(settings, key), "metres, above 0", lambda value: value > 0)

    @classmethod
    def images(cls, root: str | Path, split: str, settings: MapsConfig) -> list[Path]:
        return [path for path, _, _ in _entries(root, split, settings)]

    def shape(self, name: str) -> tuple[int, int]:
        cell = self._cells[name]
        return cell.height, cell.width

    def image(self, name: str, window: Window | None = None) -> Raster:
        one, box = self._place(name, window)
        with self._opened(one.path) as raster:
            pixels, valid = raster.read(*box)
        if one.area is not None:
            valid &= one.area(*box) > 0
        return Raster(pixels, None if valid.all() else valid)

    def label(self, name: str, window: Window | None = None, colours: bool = False) -> np.ndarray:
        """The numbers of `categories` (H, W)."""
        one, box = self._place(name, window)
        if one.labels is None:
            raise InputError(f"data.maps.{self.split}: {one.path} has no labels")
        return one.labels.burnt(box)

    def instances(self, name: str, window: Window | None = None) -> np.ndarray | None:
        one, box = self._place(name, window)
        return None if one.labels is None else one.labels.instances(box)

    def digest(self, name: str) -> str:
        one, box = self._place(name, None)
        content = f"{one.digest} {box} {self.settings.resolution} {one.area is not None}"
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def georeference(self, name: str) -> Georeference | None:
        one, (top, left, _, _) = self._place(name, None)
        with self._opened(one.path) as raster:
            place = raster.georeference
        if "transform" not in place:
            return None
        shifted = place["transform"] @ type(place["transform"]).translation(left, top)
        return Georeference(place["crs"].to_wkt() if "crs" in place else None, tuple(shifted)[:6])

    def image_file(self, name: str) -> Path:
        return self._maps[self._cells[name].map].path

    def describe_label(self, name: str) -> str:
        one = self._maps[self._cells[name].map]
        return f"{one.labels.path if one.labels else one.path} ({name})"

    def _place(self, name: str, window: Window | None) -> tuple[MapFile, Window]:
        """The map of a window, and its rows and columns there."""
        cell = self._cells[name]
        top, left, height, width = window or (0, 0, cell.height, cell.width)
        return self._maps[cell.map], (cell.top + top, cell.left + left, height, width)

    @contextmanager
    def _opened(self, path: Path) -> Iterator["RasterFile"]:
        from samseg.data.formats.georaster import RasterFile, gdal

        with gdal(), RasterFile(path, resolution=self.settings.resolution) as raster:
            yield raster

    def _split_into_cells(self, split: str) -> dict[str, Cell]:
        """The windows of the split by name."""
        cells: dict[str, Cell] = {}
        stems = Counter(one.path.stem for one in self._maps)
        for number, one in enumerate(self._maps):
            stem = one.path.stem if stems[one.path.stem] == 1 else f"{one.path.stem}-{number}"
            rows, columns = (_pieces(length, self.settings.window) for length in one.shape)
            mine = [
                (f"{stem}_{row:03d}_{column:03d}", Cell(number, top, left, height, width))
                for row, (top, height) in enumerate(rows)
                for column, (left, width) in enumerate(columns)
            ]
            if self.settings.split == "blocks":
                mine = [(name, self._shrunk(cell, one.shape)) for name, cell in _of_split(mine, split)]
            cells |= {name: cell for name, cell in mine if self._holds_data(one, cell, split)}
        return cells

    def _shrunk(self, cell: Cell, shape: tuple[int, int]) -> Cell:
        """A window without its half of the gap to its neighbours."""
        gap = self.settings.gap // 2
        top, left = cell.top + (gap if cell.top else 0), cell.left + (gap if cell.left else 0)
        bottom, right = cell.top + cell.height, cell.left + cell.width
        bottom, right = bottom - (gap if bottom < shape[0] else 0), right - (gap if right < shape[1] else 0)
        if bottom <= top or right <= left:
            raise InputError(f"data.maps.gap={self.settings.gap} leaves nothing of windows of {cell.height} pixels")
        return Cell(cell.map, top, left, bottom - top, right - left)

    def _holds_data(self, one: MapFile, cell: Cell, split: str) -> bool:
        _, *box = cell
        share = 1.0 if one.area is None else (one.area(*box) > 0).mean()
        if share:
            with self._opened(one.path) as raster:
                share = min(share, raster.valid(*box).mean())
        return share > MOSTLY if split == "train" else share > 0


def _entries(root: str | Path, split: str, settings: MapsConfig) -> list[tuple[Path, Path | None, Path | None]]:
    """(raster, labels, area) of each map of a split."""
    kind = "train" if settings.split == "blocks" and split in SPLITS else split
    entries = getattr(settings, kind, None)
    if not entries:
        raise InputError(f"data.maps.{kind} names no maps; write {kind}: [{{image: a.tif, labels: a.geojson}}]")
    found: list[tuple[Path, Path | None, Path | None]] = []
    for entry in entries:
        images = [Path(root) / entry["image"]]
        if has_magic(str(entry["image"])) and not images[0].exists():
            pattern = images[0]
            images = sorted(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))
            if not images:
                raise InputError(f"data.maps.{kind}: nothing matches {pattern}")
        others = [Path(root) / entry[key] if entry.get(key) else None for key in ("labels", "area")]
        found += [(image, *others) for image in images]
    return found


def _pieces(length: int, most: int) -> list[tuple[int, int]]:
    """(start, length) of as few equal pieces as are no longer than ``most``."""
    borders = np.linspace(0, length, -(-length // most) + 1).round().astype(int)
    return [(int(start), int(stop - start)) for start, stop in zip(borders, borders[1:])]


def _of_split(cells: list[tuple[str, Cell]], split: str) -> list[tuple[str, Cell]]:
    """Those of a map's windows that the split has: the same at every call, one or more for each split."""
    if len(cells) < 3:
        raise InputError(
            f"data.maps.split=blocks needs 3 windows or more of a map, got {len(cells)}; make data.maps.window less"
        )
    order, held_out = np.random.default_rng(0).permutation(len(cells)), max(1, round(HELD_OUT * len(cells)))
    chosen = {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}[split]
    return [cells[index] for index in sorted(chosen)]
