"""The options of a map: how rasters are read, which of their pixels are wanted, what is written."""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from samseg.common.errors import InputError
from samseg.common.files import file_digest
from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.formats.vectors import Burner, read_areas
from samseg.maps.parts.plan import Box

FORMATS = {"gpkg": "GPKG", "geojson": "GeoJSON", "fgb": "FlatGeobuf", "parquet": "Parquet"}
OVERLAY_PX = 2048  # of the picture to look at, on the longest side


@dataclass(frozen=True)
class PolygonOptions:
    """How polygons are written."""

    suffix: str  # of the file, one of `FORMATS`
    min_area: float = 0.0  # square metres; smaller polygons are left out
    simplify: float = 0.0  # metres that a border may move; borders between classes stay shared
    numbered: bool = False  # each polygon is an object, with its number from 1

    def __post_init__(self) -> None:
        if self.suffix not in FORMATS:
            raise InputError(f"polygons are written as {', '.join(FORMATS)}; got {self.suffix}")
        if not (0 <= self.min_area < math.inf and 0 <= self.simplify < math.inf):
            raise InputError("--min-area (square metres) and --simplify (metres) must not be negative, nor infinite")


@dataclass(frozen=True)
class MapOptions:
    """How rasters are read and what is written."""

    bands: tuple[int, ...] | None = None  # from 1, in the network's order; None: the run's
    resolution: float | None = None  # metres a pixel that rasters are resampled to; None: their own
    area: Path | None = None  # a file of polygons; pixels outside are nodata
    bounds: tuple[float, float, float, float] | None = None  # left, bottom, right, top on the ground; likewise
    skip_damaged: bool = False  # what cannot be read is nodata
    probabilities: str | None = None  # written, too, as "uint8" or "float16"; None: they are not
    polygons: PolygonOptions | None = None  # None: none are written
    cog: bool = False  # a cloud-optimised GeoTIFF
    overwrite: bool = False  # an earlier result is replaced

    def __post_init__(self) -> None:
        if self.area is not None and self.bounds is not None:
            raise InputError("give an area or bounds, not both")
        if self.bounds is not None:
            left, bottom, right, top = self.bounds
            if not (-math.inf < left < right < math.inf and -math.inf < bottom < top < math.inf):
                raise InputError(
                    "--bounds are LEFT BOTTOM RIGHT TOP, LEFT being less than RIGHT and BOTTOM less than TOP; got "
                    f"{left} {bottom} {right} {top}"
                )
        if self.resolution is not None and not 0 < self.resolution < math.inf:
            raise InputError(f"--resolution is metres a pixel, above 0; got {self.resolution}")

    def pixels(self) -> dict[str, Any]:
        """The options that the pixels of the result depend on."""
        area = None
        if self.area is not None:
            try:
                area = file_digest(self.area)[:16]
            except OSError as error:
                raise InputError(f"the area {self.area} cannot be read: {error.strerror}") from None
        return {
            "bands": self.bands and list(self.bands),
            "resolution": self.resolution,
            "area": area,
            "bounds": self.bounds and list(self.bounds),
            "skip_damaged": self.skip_damaged,
        }

    def wanted(self, path: Path) -> Callable[[Box], np.ndarray] | None:
        """A function from a box to which of its pixels' centres lie in the area or the bounds; None: all are wanted."""
        if self.area is None and self.bounds is None:
            return None
        with gdal(), RasterFile(path, self.bands, self.resolution) as raster:
            place, shape = raster.georeference, raster.shape
        if "transform" not in place:
            raise InputError(
                f"{path} has no geotransform, so no area can be cut out of it; leave out --area and --bounds"
            )
        if self.bounds is not None:
            areas = np.array([shapely.box(*self.bounds)])
        else:
            vectors = read_areas(self.area, place.get("crs"))
            for note in vectors.notes:
                warnings.warn(note, stacklevel=2)
            areas = vectors.geometries
        burner = Burner(areas, np.ones(len(areas)), place["transform"])
        if not len(burner.touching(0, 0, *shape)):
            raise InputError(f"{self.area or f'--bounds {self.bounds}'} does not touch {path}")
        return lambda box: burner(*box) > 0

    def outputs(self) -> dict[str, Any]:
        """The options that say what is made of the pixels, for `from_outputs`."""
        keys = ("bands", "resolution", "probabilities", "polygons")
        return {key: value for key, value in asdict(self).items() if key in keys}

    @classmethod
    def from_outputs(cls, outputs: dict[str, Any], **others: Any) -> "MapOptions":
        polygons = outputs["polygons"]
        polygons = None if polygons is None else PolygonOptions(**polygons)
        return cls(**outputs | {"polygons": polygons}, **others)
