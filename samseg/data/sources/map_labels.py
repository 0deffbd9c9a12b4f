"""Labels of a map, from a vector file or from another raster, burnt a window at a time."""

from collections import Counter
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterWindow

from samseg.common.errors import InputError, first_line
from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.formats.vectors import Burner, read_vectors, widened
from samseg.data.raster import Window
from samseg.data.sources.maps_config import MapsConfig
from samseg.data.sources.source import UNLABELLED

ALL = "object"  # the category of labels whose attribute is not asked for
RASTERS = (".tif", ".tiff", ".vrt", ".img", ".png", ".jp2")


class VectorLabels:
    """Polygons, lines and points, in the coordinates of a map.

    Attributes:
        counts: objects by category.
        notes: what a reader should know.
    """

    def __init__(self, image: Path, path: Path, settings: MapsConfig):
        with gdal(), RasterFile(image, resolution=settings.resolution) as raster:
            place, shape = raster.georeference, raster.shape
        if "transform" not in place:
            raise InputError(
                f"{image} has no geotransform, so no labels can be laid over it; assign it, or gdalwarp it"
            )
        vectors = read_vectors(path, place.get("crs"), settings.layer)
        self.path, self.notes = path, vectors.notes
        geometries = widened(vectors.geometries, place["crs"], settings.line_width, settings.point_radius)

        values = np.full(len(geometries), ALL) if settings.attribute is None else vectors.column(settings.attribute)
        self._transform = place["transform"]
        here = Burner(geometries, np.ones(len(geometries)), self._transform).touching(0, 0, *shape)
        if not len(here):
            raise InputError(f"{path} does not overlap {image}: is its coordinate system the right one?")
        self._names, self._geometries = np.array([str(value) for value in values[here]]), geometries[here]
        self.counts = Counter(self._names.tolist())

    def number(self, categories: list[str]) -> None:
        """Set the numbers of categories, from 1; the later lie on top."""
        numbers = np.array([categories.index(name) + 1 for name in self._names])
        upwards = np.argsort(numbers, kind="stable")
        geometries = self._geometries[upwards]
        self._burner = Burner(geometries, numbers[upwards], self._transform, "uint16")
        self._objects = Burner(geometries, np.arange(1, len(upwards) + 1), self._transform, "int32")

    def burnt(self, box: Window) -> np.ndarray:
        """The numbers of categories (h, w) in a window of the map, 0 where there is none."""
        return self._burner(*box)

    def instances(self, box: Window) -> np.ndarray:
        return self._objects(*box)


class RasterLabels:
    """A raster of class values, brought onto the map's pixels by nearest neighbour. Values are categories.

    What it does not cover, and where it holds its nodata value or is masked, is `UNLABELLED`. As `VectorLabels`, but
    objects are neither counted nor told apart.
    """

    def __init__(self, image: Path, path: Path, settings: MapsConfig):
        self.path, self.notes, self.counts = path, [], Counter()
        with gdal(), RasterFile(image, resolution=settings.resolution) as raster:
            place, (height, width) = raster.georeference, raster.shape
        if "crs" not in place or "transform" not in place:
            raise InputError(f"{image} has no place on Earth, so labels cannot be laid over it; assign it (gdal_edit)")
        self._grid = {"crs": place["crs"], "transform": place["transform"], "height": height, "width": width}
        left, bottom, right, top = self._checked_bounds()
        corners = [place["transform"] @ (x, y) for x in (0, width) for y in (0, height)]
        (x0, x1), (y0, y1) = ((min(v), max(v)) for v in zip(*corners))
        if not (left < x1 and x0 < right and bottom < y1 and y0 < top):
            raise InputError(f"{path} does not overlap {image}: is its coordinate system the right one?")

    def number(self, categories: list[str]) -> None:
        self._numbers = np.zeros(2**16, np.uint16)
        for number, name in enumerate(categories, start=1):
            if not name.isdigit():
                raise InputError(f"{self.path} is a raster: data.classes names its values in quotes, got {name!r}")
            self._numbers[int(name)] = number

    def burnt(self, box: Window) -> np.ndarray:
        values, known = self._read(box)
        known &= values == values  # NaN is none
        wrong = values[known & ~((values >= 0) & (values < 2**16) & (values == np.floor(values)))]
        if len(wrong):
            raise InputError(
                f"{self.path} holds the value {wrong[0]:g}, and labels are whole numbers from 0 to 65535; write it as "
                "whole numbers, or name the value as nodata (gdal_edit -a_nodata)"
            )
        values = np.where(known, values, 0).astype(np.int64)
        numbers = np.where(known, self._numbers[values], np.uint16(UNLABELLED))
        unlisted = np.unique(values[(numbers == 0) & (values != 0)])
        if len(unlisted):
            count = int((values == unlisted[0]).sum())
            raise InputError(
                f"{self.path} holds the value {unlisted[0]} ({count} pixels in a window), not declared; add it in "
                "quotes to data.classes or data.ignore"
            )
        return numbers

    def _read(self, box: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values (h, w), and where there are any (h, w) bool."""
        top, left, height, width = box
        window = RasterWindow(left, top, width, height)
        try:
            with gdal(), rasterio.open(self.path) as source:
                has_mask = source.nodata is not None or ColorInterp.alpha in source.colorinterp
                with WarpedVRT(source, resampling=Resampling.nearest, add_alpha=not has_mask, **self._grid) as laid:
                    known = laid.dataset_mask(window=window) if has_mask else laid.read(laid.count, window=window)
                    return laid.read(1, window=window), known > 0
        except RasterioError as error:
            raise InputError(f"{self.path} cannot be read: {first_line(error)}") from None

    def instances(self, box: Window) -> None:
        return None

    def _checked_bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the map's coordinates; InputError for a raster that holds no labels."""
        try:
            with gdal(), rasterio.open(self.path) as source:
                if source.crs is None:
                    raise InputError(f"{self.path} has no coordinate system; assign one (gdal_edit -a_srs)")
                bands = source.count - (ColorInterp.alpha in source.colorinterp)
                if bands != 1:
                    raise InputError(
                        f"{self.path} has {bands} bands, and a raster of labels has one, of class values: choose it "
                        "(gdal_translate -b 1), or make numbers of its colours (rgb2pct.py)"
                    )
                if source.nodata is not None:
                    self.notes.append(
                        f"{self.path}: its nodata value {source.nodata:g} is no class, but ignored "
                        "(gdal_edit -unsetnodata makes it one)"
                    )
                return transform_bounds(source.crs, self._grid["crs"], *source.bounds)
        except RasterioError as error:
            raise InputError(f"{self.path} cannot be read: {first_line(error)}") from None


def open_labels(image: Path, path: Path, settings: MapsConfig) -> VectorLabels | RasterLabels:
    """The labels of a map; a vector file unless its suffix is a raster's. InputError for what cannot be used."""
    if not path.exists():
        raise InputError(f"no such labels: {path}")
    kind = RasterLabels if path.suffix.lower() in RASTERS else VectorLabels
    return kind(image, path, settings)
