"""Polygons, lines and points of vector files, in a raster's coordinates, burnt into its pixels a window at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samseg.errors import InputError

try:
    import pyogrio
    import pyproj
    import shapely
    from rasterio.features import rasterize
    from rasterio.transform import Affine
except ImportError as error:
    raise InputError(
        f"vector files need pyogrio, pyproj, rasterio and shapely ({error}): pip install 'samseg-smp[maps]'"
    ) from None


@dataclass
class Vectors:
    """Geometries in one coordinate system, each with its attributes.

    Attributes:
        fields: a column of values by attribute name.
        mended: how many geometries were invalid and have been mended (shapely's make_valid).
    """

    path: str
    geometries: np.ndarray
    fields: dict[str, np.ndarray]
    mended: int = 0

    def column(self, attribute: str) -> np.ndarray:
        """The values of an attribute; InputError, listing those that are there, where it is not."""
        if attribute not in self.fields:
            raise InputError(
                f"{self.path} has no attribute {attribute!r}; it has {', '.join(self.fields) or 'none at all'}"
            )
        return self.fields[attribute]


def read_vectors(path: str | Path, crs: Any, layer: str | None = None) -> Vectors:
    """What a vector file (GeoPackage, GeoJSON, FlatGeobuf, Shapefile ...) holds, in the coordinates of ``crs``.

    ``crs``: a raster's (rasterio.crs.CRS). Empty geometries are left out, invalid ones mended and counted. Raises
    InputError for a file that cannot be read or holds nothing, and where either side has no coordinate system.
    """
    try:
        meta, _, wkb, columns = pyogrio.raw.read(path, layer=layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, FileNotFoundError) as error:
        raise InputError(f"{path} cannot be read as a vector file: {str(error).splitlines()[0]}") from None
    if wkb is None:
        raise InputError(f"{path} holds a table without geometries")
    geometries = shapely.force_2d(shapely.from_wkb(wkb, on_invalid="ignore"))
    if not meta["crs"]:
        raise InputError(f"{path} has no coordinate system: assign one (ogr2ogr -a_srs EPSG:... mended.gpkg {path})")
    if crs is None:
        raise InputError(
            f"{path} cannot be laid over a raster without a coordinate system; assign it (gdal_edit -a_srs)"
        )
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    geometries, fields = geometries[there], {name: c[there] for name, c in zip(meta["fields"], columns)}
    if not len(geometries):
        raise InputError(f"{path} holds no geometries")
    invalid = ~shapely.is_valid(geometries)
    geometries[invalid] = shapely.make_valid(geometries[invalid])
    return Vectors(str(path), _projected(geometries, meta["crs"], crs.to_wkt()), fields, int(invalid.sum()))


def widened(geometries: np.ndarray, crs: Any, line_width: float | None, point_radius: float | None) -> np.ndarray:
    """Lines as strips ``line_width`` metres wide and points as discs of ``point_radius`` metres; areas as they are.

    Raises InputError where a line or a point is not given its size.
    """
    kinds = shapely.get_dimensions(geometries)
    for kind, name, size in ((1, "line_width", line_width), (0, "point_radius", point_radius)):
        if (kinds == kind).any() and size is None:
            what = "lines" if kind else "points"
            raise InputError(
                f"labels hold {(kinds == kind).sum()} {what}, which need a size: set data.maps.{name} in metres"
            )
    result = geometries.copy()
    distance = np.where(kinds == 1, (line_width or 0) / 2, point_radius or 0)
    thin = kinds < 2
    if not thin.any():
        return result
    metric, to_metric = crs.to_wkt(), None
    scale = 1.0 if crs.is_geographic else crs.linear_units_factor[1]
    if crs.is_geographic:
        # A plane in metres about the middle of the geometries, true to shape and scale there.
        longitude, latitude = np.array(shapely.total_bounds(geometries)).reshape(2, 2).mean(axis=0)
        to_metric = f"+proj=aeqd +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m"
    planar = _projected(result[thin], metric, to_metric) if to_metric else result[thin]
    wide = shapely.buffer(planar, distance[thin] / scale)
    result[thin] = _projected(wide, to_metric, metric) if to_metric else wide
    return result


class Burner:
    """Geometries with a value each, burnt into windows of a raster; where they overlap the later one wins."""

    def __init__(self, geometries: np.ndarray, values: Sequence[int], transform: Affine, dtype: str = "uint8"):
        self.geometries, self.values, self.transform, self.dtype = geometries, values, transform, dtype
        self._tree = shapely.STRtree(geometries)

    def touching(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Indices, ascending, of the geometries whose bounding boxes touch a window."""
        corners = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
        return np.sort(self._tree.query(shapely.polygons([self.transform @ corner for corner in corners])))

    def __call__(self, top: int, left: int, height: int, width: int, fill: int = 0) -> np.ndarray:
        """(h, w): the value of the geometry over each pixel's centre, ``fill`` where there is none."""
        shapes = [
            (self.geometries[index], int(self.values[index])) for index in self.touching(top, left, height, width)
        ]
        if not shapes:
            return np.full((height, width), fill, self.dtype)
        place = self.transform @ Affine.translation(left, top)
        return rasterize(shapes, (height, width), fill=fill, transform=place, dtype=self.dtype)


def _projected(geometries: np.ndarray, source: str, target: str) -> np.ndarray:
    there = pyproj.Transformer.from_crs(source, target, always_xy=True)
    if there.source_crs.equals(there.target_crs, ignore_axis_order=True):
        return geometries
    return shapely.transform(geometries, lambda x, y: np.stack(there.transform(x, y)), interleaved=False)
