"""Polygons, lines and points of vector files, in a raster's coordinates, burnt into its pixels a window at a time."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samseg.common.errors import InputError, did_you_mean, first_line

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


PARQUET = (".parquet", ".geoparquet")  # which pyogrio's own GDAL does not read


@dataclass
class Vectors:
    """Geometries in one coordinate system, each with its attributes."""

    path: str
    geometries: np.ndarray
    fields: dict[str, np.ndarray]  # a column of values by attribute name, None where there is none
    mended: int = 0  # geometries that were invalid (shapely's make_valid) or whose rings were open
    left_out: int = 0  # features without a geometry, or with one that covers nothing

    def column(self, attribute: str) -> np.ndarray:
        """The values of an attribute as text, "no ATTRIBUTE" for none; InputError, listing those that are there."""
        if attribute not in self.fields:
            raise InputError(
                f"{self.path} has no attribute {attribute!r}; it has {', '.join(self.fields) or 'none at all'}"
            )
        values = [f"no {attribute}" if value is None else str(value) for value in self.fields[attribute]]
        return np.array(values, object)

    @property
    def notes(self) -> list[str]:
        """What a reader should know."""
        mended = [f"{self.path}: {self.mended} invalid geometries were mended"] if self.mended else []
        left_out = f"{self.path}: {self.left_out} features without a geometry that covers something are left out"
        return [*mended, left_out] if self.left_out else mended


def read_vectors(path: str | Path, crs: Any, layer: str | None = None) -> Vectors:
    """What a vector file (GeoPackage, GeoJSON, FlatGeobuf, GeoParquet, Shapefile ...) holds, in coordinates of ``crs``.

    ``crs``: a raster's (rasterio.crs.CRS). ``layer``: of a file that holds several. Geometries without an extent are
    left out, invalid ones mended; both are counted. Raises InputError for a file that cannot be read or holds nothing,
    and where either side has no coordinate system.
    """
    try:
        own_crs, wkb, fields = (_read_parquet if Path(path).suffix.lower() in PARQUET else _read_ogr)(path, layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a vector file: {first_line(error)}") from None
    if wkb is None:
        raise InputError(f"{path} holds a table without geometries")
    if not own_crs:
        raise InputError(f"{path} has no coordinate system: assign one (ogr2ogr -a_srs EPSG:... mended.gpkg {path})")
    if crs is None:
        raise InputError(
            f"{path} cannot be laid over a raster without a coordinate system; assign it (gdal_edit -a_srs)"
        )
    open_rings = shapely.is_missing(shapely.from_wkb(wkb, on_invalid="ignore"))
    geometries, invalid = _mended(shapely.force_2d(shapely.from_wkb(wkb, on_invalid="fix")))
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not there.any():
        raise InputError(f"{path} holds no geometries")
    mended = int((there & (invalid | open_rings)).sum())
    geometries, fields = geometries[there], {name: column[there] for name, column in fields.items()}
    return Vectors(str(path), projected(geometries, own_crs, crs.to_wkt()), fields, mended, int((~there).sum()))


def read_areas(path: str | Path, crs: Any) -> Vectors:
    """The polygons of a vector file, as `read_vectors` reads it, without its attributes; InputError where none are."""
    vectors = read_vectors(path, crs)
    parts, _ = _parts(vectors.geometries)
    vectors.geometries, vectors.fields = parts[shapely.get_dimensions(parts) == 2], {}
    if not len(vectors.geometries):
        raise InputError(f"{path} holds no polygons, only lines or points, which have no inside")
    return vectors


def _read_ogr(path: str | Path, layer: str | None) -> tuple[str | None, np.ndarray | None, dict[str, np.ndarray]]:
    """(CRS, WKB, columns) of a layer."""
    layers = [name for name, kind in pyogrio.list_layers(path).tolist() if kind is not None]
    if layer is not None and layer not in layers:
        raise InputError(f"{path} has no layer {layer!r}; it has {', '.join(layers)}{did_you_mean(layer, layers)}")
    if layer is None and len(layers) > 1:
        raise InputError(
            f"{path} holds {len(layers)} layers ({', '.join(layers)}): name that of labels with data.maps.layer, or "
            f"save the one that is meant as a file of its own (ogr2ogr one.gpkg {path} {layers[0]})"
        )
    meta, _, wkb, columns = pyogrio.raw.read(path, layer=layer)
    kinds = zip(meta["fields"], columns, meta["dtypes"])
    return meta["crs"], wkb, {name: _with_none(column, kind) for name, column, kind in kinds}


def _read_parquet(path: str | Path, layer: str | None) -> tuple[str | None, np.ndarray | None, dict[str, np.ndarray]]:
    """(CRS, WKB, columns) of GeoParquet 1.0: https://geoparquet.org/releases/v1.0.0/"""
    from pyarrow import parquet, types

    table = parquet.read_table(path)
    about = json.loads((table.schema.metadata or {}).get(b"geo", b"{}"))
    if not about:
        return None, None, {}
    place = about["columns"][about["primary_column"]]
    if place["encoding"] != "WKB":
        raise InputError(f"{path} holds geometries as {place['encoding']}; WKB is read (ogr2ogr labels.gpkg {path})")
    crs = place.get("crs", "OGC:CRS84")
    wkb = np.array(table[about["primary_column"]].to_pylist(), object)
    plain = [one.name for one in table.schema if one.name not in about["columns"] and not types.is_nested(one.type)]
    columns = {name: np.array(table[name].to_pylist(), object) for name in plain}
    return (
        crs and pyproj.CRS.from_user_input(crs).to_wkt(),
        wkb,
        {k: _with_none(v, "object") for k, v in columns.items()},
    )


def _with_none(column: np.ndarray, kind: str) -> np.ndarray:
    """Values of a column, None for a null, and whole numbers without a fraction, whatever they are stored as.

    A null makes floats of integers and truths, and what is an integer in one file is a float in the next.
    """
    values = column.astype(object)
    for index, value in enumerate(values):
        if isinstance(value, float):
            whole = int(value) if math.isfinite(value) and value == int(value) else value
            values[index] = None if math.isnan(value) else bool(value) if kind == "bool" else whole
    return values


def _parts(geometries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Geometries with the members of collections in their place, and the index of each one's owner."""
    geometries, owners = geometries.copy(), np.arange(len(geometries))
    while (mixed := shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION).any():
        members, of = shapely.get_parts(geometries[mixed], return_index=True)
        geometries = np.concatenate([geometries[~mixed], members])
        owners = np.concatenate([owners[~mixed], owners[mixed][of]])
    return geometries, owners


def _joined(parts: np.ndarray, owners: np.ndarray, count: int, join: Callable[[np.ndarray], Any]) -> np.ndarray:
    """The geometries of ``count`` owners; ``join`` makes one of the parts of those that have several."""
    result = np.full(count, None, object)
    has = np.bincount(owners, minlength=count)
    alone = has[owners] == 1
    result[owners[alone]] = parts[alone]
    for owner in np.flatnonzero(has > 1):
        result[owner] = join(parts[owners == owner])
    return result


def _mended(geometries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Valid geometries of the same kind, and which were not valid: the line that a spike leaves is no polygon."""
    parts, owners = _parts(geometries)
    wrong = ~(shapely.is_valid(parts) | shapely.is_missing(parts))
    pieces, of = _parts(shapely.make_valid(parts[wrong]))
    same = shapely.get_dimensions(pieces) == shapely.get_dimensions(parts[wrong])[of]
    parts[wrong] = _joined(pieces[same], of[same], int(wrong.sum()), shapely.union_all)
    invalid = np.zeros(len(geometries), bool)
    invalid[owners[wrong]] = True
    there = ~shapely.is_missing(parts)
    return _joined(parts[there], owners[there], len(geometries), shapely.geometrycollections), invalid


def widened(geometries: np.ndarray, crs: Any, line_width: float | None, point_radius: float | None) -> np.ndarray:
    """Lines as strips ``line_width`` metres wide and points as discs of ``point_radius`` metres; areas as they are.

    Also where they are members of a collection. Raises InputError where a line or a point is not given its size.
    """
    result, owners = _parts(geometries)
    kinds = shapely.get_dimensions(result)
    for kind, name, size in ((1, "line_width", line_width), (0, "point_radius", point_radius)):
        if (kinds == kind).any() and size is None:
            what = "lines" if kind else "points"
            raise InputError(
                f"labels hold {(kinds == kind).sum()} {what}, which need a size: set data.maps.{name} in metres"
            )
    thin = kinds < 2
    if thin.any():
        distance = np.where(kinds == 1, (line_width or 0) / 2, point_radius or 0)
        result[thin] = _buffered(result[thin], distance[thin], crs)
    return _joined(result, owners, len(geometries), shapely.union_all)


def _buffered(geometries: np.ndarray, metres: np.ndarray, crs: Any) -> np.ndarray:
    if not crs.is_geographic:
        return shapely.buffer(geometries, metres / crs.linear_units_factor[1])
    # A plane in metres about the middle of the geometries, true to shape and scale there.
    longitude, latitude = np.array(shapely.total_bounds(geometries)).reshape(2, 2).mean(axis=0)
    plane = f"+proj=aeqd +lat_0={latitude} +lon_0={longitude} +datum=WGS84 +units=m"
    wide = shapely.buffer(projected(geometries, crs.to_wkt(), plane), metres)
    return projected(wide, plane, crs.to_wkt())


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


def projected(geometries: np.ndarray, source: str, target: str) -> np.ndarray:
    """Geometries in the coordinate system ``target`` instead of ``source``."""
    there = pyproj.Transformer.from_crs(source, target, always_xy=True)
    if there.source_crs.equals(there.target_crs, ignore_axis_order=True):
        return geometries
    return shapely.transform(geometries, lambda x, y: np.stack(there.transform(x, y)), interleaved=False)
