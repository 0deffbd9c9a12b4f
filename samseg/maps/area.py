"""The wanted pixels of a raster: those in an area or in bounds."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import shapely

from samseg.common.errors import InputError
from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.formats.vectors import Burner, read_areas
from samseg.maps.options import MapOptions
from samseg.maps.parts.plan import Box


def wanted(path: Path, options: MapOptions) -> Callable[[Box], np.ndarray] | None:
    """A function from a box to which of its pixels' centres lie in the area or the bounds; None: all are wanted."""
    if options.area is None and options.bounds is None:
        return None
    with gdal(), RasterFile(path, options.bands, options.resolution) as raster:
        place = raster.georeference
    if "transform" not in place:
        raise InputError(f"{path} has no geotransform, so no area can be cut out of it; leave out --area and --bounds")
    if options.bounds is not None:
        areas = np.array([shapely.box(*options.bounds)])
    else:
        vectors = read_areas(options.area, place.get("crs"))
        for note in vectors.notes:
            warnings.warn(note, stacklevel=2)
        areas = vectors.geometries
    burner = Burner(areas, np.ones(len(areas)), place["transform"])
    if not len(burner.touching(0, 0, *raster.shape)):
        raise InputError(f"{options.area or f'--bounds {options.bounds}'} does not touch {path}")
    return partial(_inside, burner)


def _inside(burner: Burner, box: Box) -> np.ndarray:
    return burner(*box) > 0
