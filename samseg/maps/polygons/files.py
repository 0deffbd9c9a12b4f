"""Areas as vector files: GeoPackage, GeoJSON, FlatGeobuf, GeoParquet."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
import pyproj
import shapely

from samseg.common.errors import InputError
from samseg.maps.disk import written
from samseg.maps.options import FORMATS, PolygonOptions
from samseg.maps.polygons.areas import Area

TOGETHER = 5000  # polygons written at a time
SCHEMA = pa.schema(
    [("geometry", pa.binary()), ("class", pa.string()), ("area", pa.float64()), ("probability", pa.float64())]
)
NUMBERED = SCHEMA.append(pa.field("object", pa.int64()))


class Place:
    """From pixels to the ground: where polygons lie, and how large they are."""

    def __init__(self, place: dict[str, Any], name: object):
        """``place``: a raster's georeference. InputError, naming the raster, where it has no coordinates."""
        if place.get("crs") is None or "transform" not in place:
            lacks = "no coordinate system" if place.get("crs") is None else "no geotransform"
            raise InputError(f"{name} has {lacks}, which polygons need; assign it (gdal_edit, gdalwarp)")
        self.transform = place["transform"]
        self.crs = pyproj.CRS.from_wkt(place["crs"].to_wkt())
        self._geod = self.crs.get_geod() if self.crs.is_geographic else None
        self._metres = 1.0 if self.crs.is_geographic else place["crs"].linear_units_factor[1]

    def __call__(self, polygons: np.ndarray) -> np.ndarray:
        """Polygons in pixels as polygons on the ground."""
        return shapely.transform(polygons, lambda x, y: np.stack(self.transform @ (x, y)), interleaved=False)

    def square_metres(self, polygons: np.ndarray) -> np.ndarray:
        """On the ellipsoid for degrees, otherwise in the plane of the map."""
        if self._geod is None:
            return shapely.area(polygons) * self._metres**2
        return np.array([abs(self._geod.geometry_area_perimeter(polygon)[0]) for polygon in polygons])

    def pixel(self, polygons: np.ndarray) -> float:
        """Metres along the side of a pixel, about, where polygons in pixels lie."""
        x, y = shapely.total_bounds(polygons).reshape(2, 2).mean(axis=0)
        return math.sqrt(self.square_metres(self(np.array([shapely.box(x - 5, y - 5, x + 5, y + 5)])))[0]) / 10


def write_polygons(path: Path, found: Iterable[Area], classes: list[str], place: Place, options: PolygonOptions) -> int:
    """Write areas as polygons with their class, square metres and mean probability; returns how many there are.

    With ``options.numbered`` each has a number, too, from 1. With ``options.simplify`` all of them are held at once,
    because borders are simplified for both sides.
    """
    if options.simplify:
        found = _simplified(list(found), place, options.simplify)
    counted = [0]
    schema = NUMBERED if options.numbered else SCHEMA
    batches = _batches(iter(found), schema, classes, place, options, counted)
    with written(path) as temporary:
        if options.suffix == "parquet":
            _write_parquet(temporary, schema, batches, place)
        else:
            reader = pa.RecordBatchReader.from_batches(schema, batches)
            write_layer(temporary, path.stem, reader, FORMATS[options.suffix], place.crs.to_wkt())
    return counted[0]


def write_layer(file: Path, name: str, content: Any, driver: str, crs: str) -> None:
    """Write Arrow's table or reader ``content`` as the layer ``name`` of a new vector file in place of ``file``."""
    file.unlink()  # GDAL makes it
    pyogrio.write_arrow(
        content, file, layer=name, driver=driver, geometry_name="geometry", geometry_type="Unknown", crs=crs
    )


def _batches(
    found: Iterator[Area], schema: pa.Schema, classes, place: Place, options: PolygonOptions, counted
) -> Iterator[pa.RecordBatch]:
    while some := list(islice(found, TOGETHER)):
        polygons = place(np.array([area.polygon for area in some], object))
        metres = place.square_metres(polygons)
        kept = np.flatnonzero(metres >= options.min_area)
        numbers = range(counted[0] + 1, counted[0] + len(kept) + 1)
        counted[0] += len(kept)
        columns = [
            [shapely.to_wkb(polygons[at]) for at in kept],
            [classes[some[at].index] for at in kept],
            metres[kept],
            [some[at].probability for at in kept],
            numbers,
        ]
        yield pa.record_batch([pa.array(column, kind) for column, kind in zip(columns, schema.types)], schema=schema)


def _simplified(found: list[Area], place: Place, metres: float) -> list[Area]:
    """Simplify borders by up to about ``metres``, those between two areas alike for both, so that no gap opens."""
    if not found:
        return []
    # A vertex at each pixel, so that the borders of neighbours have the same ones.
    polygons = np.array([area.polygon for area in found], object)
    tolerance = metres / place.pixel(polygons)
    polygons = shapely.coverage_simplify(shapely.transform(shapely.segmentize(polygons, 1), np.round), tolerance)
    return [area._replace(polygon=polygon) for area, polygon in zip(found, polygons)]


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], place: Place) -> None:
    """GeoParquet 1.0: https://geoparquet.org/releases/v1.0.0/"""
    from pyarrow.parquet import ParquetWriter

    column = {"encoding": "WKB", "geometry_types": [], "crs": place.crs.to_json_dict()}
    about = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": column}}
    with ParquetWriter(path, schema.with_metadata({"geo": json.dumps(about)})) as writer:
        for batch in batches:
            writer.write_batch(batch)
