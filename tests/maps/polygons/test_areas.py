"""Polygons of a class map: across parts without a seam, valid, and the map again when they are burnt."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine

from samseg.maps.options import PolygonOptions
from samseg.maps.parts.plan import MapPlan
from samseg.maps.parts.store import PartStore
from samseg.maps.polygons.areas import areas
from samseg.maps.polygons.files import Place, write_polygons
from samseg.predict.tiling import TilePlan
from tests.maps.rasters import CLASSES, NORTH_UP

SPIRAL = """
AAAAAAAAAA
A........A
A.AAAAAA.A
A.A....A.A
A.A.AA.A.A
A.A.A..A.A
A.A.AAAA.A
A.A......A
A.AAAAAAAA
A........."""


def store(folder, classes: np.ndarray, side: int) -> PartStore:
    """A class map (255 nodata) as parts; the confidence is 0.5 everywhere."""
    parts = PartStore(folder, MapPlan(TilePlan(*classes.shape, 32, 0), side), CLASSES, "a", {}, {}, confidence=True)
    parts.prepare()
    for number in range(parts.plan.parts):
        box = parts.plan.part(number)
        part = classes[box.top : box.bottom, box.left : box.right]
        probabilities = np.full((3, *part.shape), 0.25, np.float32)
        np.put_along_axis(probabilities, np.where(part < 3, part, 0)[None].astype(int), 0.5, axis=0)
        parts.write(number, rasterio_tensor(probabilities), part != 255)
    return parts


def rasterio_tensor(array):
    import torch

    return torch.from_numpy(array)


def blobs(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Classes in areas of all sizes, some that touch at corners, and nodata."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 3, (height // 5 + 1, width // 5 + 1)).repeat(5, 0).repeat(5, 1)[:height, :width]
    fine = generator.integers(0, 3, (height, width))
    classes = np.where(generator.random((height, width)) < 0.2, fine, coarse).astype(np.uint8)
    classes[:7, 20:40] = 255
    return classes


def letters(text: str) -> np.ndarray:
    return np.array([[letter == "A" for letter in row] for row in text.strip().split("\n")], np.uint8)


@pytest.mark.parametrize("side", [3, 16, 64])
@pytest.mark.parametrize("classes", [blobs(24, 31), letters(SPIRAL), np.indices((9, 9)).sum(0).astype(np.uint8) % 2])
def test_burnt_again_they_are_the_class_map(tmp_path, classes, side):
    found = list(areas(store(tmp_path, classes, side)))
    polygons = np.array([area.polygon for area in found])
    assert shapely.is_valid(polygons).all() and set(shapely.get_type_id(polygons)) == {3}
    burnt = rasterize(
        [(area.polygon, area.index) for area in found], classes.shape, fill=255, transform=Affine.identity()
    )
    np.testing.assert_array_equal(burnt, classes)
    assert sum(polygon.area for polygon in polygons) == (classes != 255).sum()
    assert {area.probability for area in found} == {0.5}


def test_they_do_not_depend_on_the_parts(tmp_path):
    classes = blobs(60, 70)

    def outlines(side):
        found = areas(store(tmp_path / str(side), classes, side))
        return {(area.index, area.polygon.normalize().simplify(0).normalize().wkt) for area in found}

    one = outlines(128)
    assert outlines(16) == one == outlines(7)
    assert len(one) > 100


def test_what_is_given_out_is_forgotten(tmp_path):
    """Stripes as wide as a part: each is finished with its row of parts, and the last row has nothing else open."""
    classes = (np.indices((120, 30))[0] // 10 % 2).astype(np.uint8)
    seen, parts = [], store(tmp_path, classes, 10)
    read = parts.read

    def reading(number, band=1):
        seen.append(number)
        return read(number, band)

    parts.read = reading
    for number, area in enumerate(areas(parts)):
        assert area.polygon.equals(shapely.box(0, 10 * number, 30, 10 * number + 10))
        assert max(seen) // 3 <= number + 1


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "fgb", "parquet"])
def test_files_hold_class_area_and_probability(tmp_path, suffix):
    classes = np.ones((20, 30), np.uint8)
    classes[5:9, 5:11] = 0
    classes[12:14, 20:29] = 2
    path = tmp_path / f"a.{suffix}"
    parts = store(tmp_path / "parts", classes, 16)
    place = Place({"crs": rasterio.crs.CRS.from_epsg(32616), "transform": NORTH_UP}, "a.tif")
    assert write_polygons(path, areas(parts, skip=1), CLASSES, place, PolygonOptions(suffix)) == 2
    if suffix == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        assert json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]["crs"]["id"]["code"] == 32616
        rows = table.to_pylist()
        geometries = shapely.from_wkb([row["geometry"] for row in rows])
    else:
        meta, _, wkb, columns = pyogrio.raw.read(path)
        assert "32616" in meta["crs"]
        rows = [dict(zip(meta["fields"], values)) for values in zip(*columns)]
        geometries = shapely.from_wkb(wkb)
    by_class = {row["class"]: (row, geometry) for row, geometry in zip(rows, geometries)}
    assert by_class["ground"][0]["area"] == 24 * 0.25 and by_class["tree"][0]["area"] == 18 * 0.25
    assert by_class["tree"][0]["probability"] == pytest.approx(0.5)
    left, top = NORTH_UP @ (5, 5)
    assert by_class["ground"][1].equals(shapely.box(left, top - 2, left + 3, top))


def test_objects_are_numbered(tmp_path):
    classes = np.where(np.indices((20, 20)).sum(0) % 8 < 3, 1, 0).astype(np.uint8)
    parts = store(tmp_path / "parts", classes, 16)
    place = Place({"crs": rasterio.crs.CRS.from_epsg(32616), "transform": NORTH_UP}, "a.tif")
    for suffix in ("gpkg", "parquet"):
        options = PolygonOptions(suffix, min_area=3, numbered=True)
        count = write_polygons(tmp_path / f"a.{suffix}", areas(parts, skip=0), CLASSES, place, options)
        if suffix == "parquet":
            import pyarrow.parquet as pq

            numbers = pq.read_table(tmp_path / "a.parquet")["object"].to_pylist()
        else:
            meta, _, _, columns = pyogrio.raw.read(tmp_path / "a.gpkg")
            numbers = dict(zip(meta["fields"], columns))["object"].tolist()
        assert numbers == list(range(1, count + 1)) and count > 2


def test_areas_in_degrees_are_of_the_ellipsoid(tmp_path):
    place = Place({"crs": rasterio.crs.CRS.from_epsg(4326), "transform": Affine(0.001, 0, 10, 0, -0.001, 60)}, "a.tif")
    parts = store(tmp_path / "parts", np.zeros((10, 10), np.uint8), 16)
    write_polygons(tmp_path / "a.gpkg", areas(parts), CLASSES, place, PolygonOptions("gpkg"))
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "a.gpkg")
    found = dict(zip(meta["fields"], columns))["area"][0]
    assert found == pytest.approx(1113.8 * 558.0, rel=0.01)  # a hundredth of a degree at 60 degrees north


def test_small_ones_are_left_out_and_simplified_ones_share_their_borders(tmp_path):
    classes = np.where(np.indices((60, 60)).sum(0) < 60, 1, 2).astype(np.uint8)  # a staircase
    classes[3:5, 3:5] = 2
    parts = store(tmp_path / "parts", classes, 16)
    place = Place({"crs": rasterio.crs.CRS.from_epsg(32616), "transform": NORTH_UP}, "a.tif")
    options = PolygonOptions("gpkg", min_area=2, simplify=1.0)
    assert write_polygons(tmp_path / "a.gpkg", areas(parts), CLASSES, place, options) == 2
    one, other = shapely.from_wkb(pyogrio.raw.read(tmp_path / "a.gpkg")[2])
    assert len(shapely.get_coordinates(one)) < 20
    assert shapely.is_valid([one, other]).all()
    assert one.intersection(other).area == 0 and one.union(other).area == pytest.approx(30 * 30 - 1, rel=1e-3)


def test_a_raster_without_coordinates_is_refused():
    with pytest.raises(ValueError, match="a.tif has no coordinate system, which polygons need"):
        Place({"transform": NORTH_UP}, "a.tif")
