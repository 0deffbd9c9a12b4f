"""Maps as a source: labels burnt where they lie, whatever their coordinates, and windows that split a map."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio")
import pyogrio
import pyproj
import rasterio
import rasterio.features
import shapely
import yaml
from rasterio.warp import transform_geom

from samseg.common.errors import ConfigError, InputError
from samseg.data.check import check_dataset
from samseg.data.config import DataConfig, complete_data, open_source
from samseg.data.dataset import SegmentationDataset
from samseg.data.sources.maps import MapsSource
from samseg.data.sources.maps_config import MapsConfig
from samseg.data.target import class_target
from tests.conftest import TINY
from tests.data.sources.contract import SourceContract
from tests.maps.rasters import NORTH_UP, noise, write_raster

HEIGHT, WIDTH = 90, 120


def ground(*pixels: tuple[float, float]) -> list[list[float]]:
    """Pixels (column, row) as coordinates on the ground."""
    return [list(NORTH_UP @ pixel) for pixel in pixels]


def box(top: float, left: float, bottom: float, right: float) -> dict:
    ring = ground((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return {"type": "Polygon", "coordinates": [ring]}


def write_labels(path: Path, labels: list[tuple[str, dict]], crs: str = "EPSG:32616") -> Path:
    """GeoJSON of (kind, geometry) given in EPSG:32616."""
    features = [
        {
            "type": "Feature",
            "properties": {"kind": kind, "height": 3},
            "geometry": geometry if crs == "EPSG:32616" else transform_geom("EPSG:32616", crs, geometry, precision=12),
        }
        for kind, geometry in labels
    ]
    name = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{crs[5:]}"}}
    named = {} if crs == "EPSG:4326" else {"crs": {"type": "name", **name}}
    path.write_text(json.dumps({"type": "FeatureCollection", **named, "features": features}))
    return path


LABELS = [("house", box(10, 20, 30, 50)), ("pond", box(20, 40, 60, 80)), ("house", box(70, 90, 90, 120))]


@pytest.fixture
def root(tmp_path) -> Path:
    write_raster(tmp_path / "a.tif", noise(HEIGHT, WIDTH))
    write_labels(tmp_path / "a.geojson", LABELS)
    return tmp_path


def settings(**changes) -> MapsConfig:
    maps = {"train": [{"image": "a.tif", "labels": "a.geojson"}], "window": 50, "attribute": "kind"}
    return MapsConfig(**maps | changes)


def whole_label(root: Path, **changes) -> np.ndarray:
    source = MapsSource(root, "train", settings(window=200, order=["house", "pond"], **changes))
    return source.label(source.names[0])


class TestContract(SourceContract):
    @pytest.fixture
    def source(self, root) -> MapsSource:
        return MapsSource(root, "train", settings())

    def test_its_images_are_found_without_labels(self, root):
        (root / "a.geojson").unlink()
        assert MapsSource.images(root, "train", settings()) == [root / "a.tif"]


def test_windows_divide_the_map(root):
    source = MapsSource(root, "train", settings())
    assert source.names == [f"a_{row:03d}_{column:03d}" for row in range(2) for column in range(3)]
    rows = [np.concatenate([source.image(f"a_{r:03d}_{c:03d}").pixels for c in range(3)], 2) for r in range(2)]
    np.testing.assert_array_equal(np.concatenate(rows, 1), noise(HEIGHT, WIDTH))
    place = source.georeference("a_001_002")
    assert (place.transform[2], place.transform[5]) == NORTH_UP @ (80, 45)


@pytest.mark.parametrize("crs", ["EPSG:32616", "EPSG:4326", "EPSG:3857"])
def test_labels_lie_where_they_are_in_any_coordinates_and_the_later_class_on_top(root, crs):
    write_labels(root / "a.geojson", LABELS, crs)
    expected = np.zeros((HEIGHT, WIDTH), int)
    for number, rows, columns in ((1, (10, 30), (20, 50)), (1, (70, 90), (90, 120)), (2, (20, 60), (40, 80))):
        expected[slice(*rows), slice(*columns)] = number
    np.testing.assert_array_equal(whole_label(root), expected)
    source = MapsSource(root, "train", settings(window=200, order=["pond", "house"]))
    assert source.label(source.names[0])[25, 45] == 2  # now houses lie on top
    assert source.categories == {"pond": 1, "house": 2}


def test_lines_have_a_width_and_points_a_radius_in_metres(root):
    line = {"type": "LineString", "coordinates": ground((-10, 45.5), (200, 45.5))}
    point = {"type": "Point", "coordinates": ground((60.5, 15.5))[0]}
    write_labels(root / "a.geojson", [("house", line), ("pond", point)], "EPSG:4326")
    with pytest.raises(InputError, match="1 lines, which need a size: set data.maps.line_width in metres"):
        whole_label(root, point_radius=1)
    label = whole_label(root, line_width=3.5, point_radius=2.5)
    assert ((label == 1).sum(0) == 7).all() and (label[42:49] == 1).all()  # 3.5 m at 0.5 m a pixel
    assert (label == 2).sum() == pytest.approx(np.pi * 5**2, rel=0.1) and label[15, 60] == 2


def test_raster_labels_are_laid_onto_the_map(root):
    values = np.zeros((1, 45, 60), np.uint8)
    values[0, 5:15, 10:25] = 7
    coarse = NORTH_UP @ rasterio.Affine.scale(2)
    write_raster(root / "labels.tif", values, transform=coarse)
    changes = {"train": [{"image": "a.tif", "labels": "labels.tif"}], "order": ["7"], "window": 200}
    source = MapsSource(root, "train", settings(**changes))
    np.testing.assert_array_equal(source.label("a_000_000"), values[0].repeat(2, 0).repeat(2, 1) > 0)
    values[0, 0, 0] = 9
    write_raster(root / "labels.tif", values, transform=coarse)
    with pytest.raises(InputError, match="labels.tif holds the value 9 .4 pixels in a window., not declared"):
        MapsSource(root, "train", settings(**changes)).label("a_000_000")


VALUES = np.zeros((1, 60, 120), np.uint8)  # two thirds of the map
VALUES[0, 10:20, 30:60], VALUES[0, 40:50, 30:60] = 7, 2


def raster_classes(root: Path, values: np.ndarray, ignore=(), **options) -> tuple[np.ndarray, list[str]]:
    """Class indices of the map whose labels are a raster of ``values``: none 0, seven 1, ignored 255."""
    write_raster(root / "labels.tif", values, **options)
    maps = settings(train=[{"image": "a.tif", "labels": "labels.tif"}], window=200, attribute=None)
    data = DataConfig("maps", str(root), classes={"none": None, "seven": "7"}, ignore=list(ignore), maps=maps)
    complete_data(data)
    source = open_source(data, "train")
    return class_target(data, source)(source, "a_000_000")["classes"], source.notes


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_where_a_raster_of_labels_says_nothing_nothing_counts(root, dtype):
    expected = np.full((HEIGHT, WIDTH), 255)
    expected[:60] = np.where(VALUES[0] == 2, 255, VALUES[0] == 7)
    classes, notes = raster_classes(root, VALUES.astype(dtype), ignore=["2"])
    np.testing.assert_array_equal(classes, expected)
    assert not notes
    nodata = -9999 if dtype == "int16" else 200 if dtype == "uint8" else np.nan
    values = VALUES.astype(dtype)
    values[0, 5:9, 5:9] = nodata
    expected[5:9, 5:9] = 255
    classes, notes = raster_classes(root, values, ignore=["2"], nodata=nodata)
    np.testing.assert_array_equal(classes, expected)
    assert len(notes) == 1 and "is no class, but ignored (gdal_edit -unsetnodata makes it one)" in notes[0]


def test_rasters_that_are_no_labels_are_one_line(root):
    with pytest.raises(InputError, match="holds the value 2 .300 pixels in a window., not declared; add it in quotes"):
        raster_classes(root, VALUES)
    with pytest.raises(
        InputError, match="labels.tif holds the value 0.6, and labels are whole numbers from 0 to 65535"
    ):
        raster_classes(root, np.where(VALUES == 2, np.float32(0.6), VALUES))
    with pytest.raises(InputError, match="labels.tif holds the value -9999, and labels .*nodata .gdal_edit -a_nodata"):
        raster_classes(root, np.where(VALUES == 2, np.int16(-9999), VALUES))
    with pytest.raises(InputError, match="labels.tif has 3 bands, and a raster of labels has one"):
        raster_classes(root, np.repeat(VALUES, 3, axis=0))


def test_resolution_resamples_map_and_labels_alike(root):
    source = MapsSource(root, "train", settings(window=200, resolution=1.0, order=["house", "pond"]))
    assert source.shape("a_000_000") == (45, 60) == source.image("a_000_000").pixels.shape[1:]
    np.testing.assert_array_equal(source.label("a_000_000"), whole_label(root)[1::2, 1::2])


def test_outside_the_area_and_without_data_nothing_counts(root):
    pixels = noise(HEIGHT, WIDTH)
    pixels[:, :, :60] = 0
    write_raster(root / "a.tif", pixels, nodata=0)
    write_labels(root / "area.geojson", [("", box(0, 0, 45, 120))])
    train = [{"image": "a.tif", "labels": "a.geojson", "area": "area.geojson"}]
    maps = settings(train=train, val=train, window=45)
    assert MapsSource(root, "train", maps).names == ["a_000_002"]
    data = DataConfig("maps", str(root), classes={"ground": None, "house": "house", "pond": "pond"}, maps=maps)
    complete_data(data)
    source = open_source(data, "val")
    dataset = SegmentationDataset(source, class_target(data, source), data.preprocessing, train=False, seed=0)
    masks = {item["name"]: item["classes"].numpy() for item in dataset}
    assert sum((mask != 255).sum() for mask in masks.values()) == 45 * 60
    assert (masks["a_000_001"][:, :20] == 255).all()


def test_blocks_of_one_map_do_not_touch(root):
    write_raster(root / "a.tif", noise(300, 400))
    taken = np.zeros((300, 400), int)
    for number, split in enumerate(("train", "val", "test"), start=1):
        source = MapsSource(root, split, settings(split="blocks", gap=10))
        assert source.names
        for name in source.names:
            column, row = ~NORTH_UP @ np.array(source.georeference(name).transform)[[2, 5]]
            height, width = source.shape(name)
            here = taken[round(row) : round(row) + height, round(column) : round(column) + width]
            assert (here == 0).all() and here.shape == (height, width)
            here[:] = number
    rows, columns = np.nonzero(taken == 3)
    around = {taken[max(0, r - 9) : r + 10, max(0, c - 9) : c + 10].max() for r, c in zip(rows, columns)}
    assert around == {3}, "train and val keep away from test"
    assert (taken == 1).sum() > 0.4 * taken.size


def test_a_run_is_told_what_is_mended_and_what_is_not_declared(root):
    bow = {"type": "Polygon", "coordinates": [ground((1, 1), (9, 9), (9, 1), (1, 9), (1, 1))]}
    write_labels(root / "a.geojson", [*LABELS, ("house", bow)])
    data = DataConfig("maps", str(root), classes={"ground": None, "house": ["house", "pond"]}, maps=settings())
    complete_data(data)
    report = check_dataset(data, ["train"])
    assert "a.geojson: 1 invalid geometries were mended" in str(report)
    data = DataConfig("maps", str(root), classes={"ground": None, "house": "house"}, maps=settings())
    complete_data(data)
    with pytest.raises(InputError, match="pond .1 object., not declared"):
        check_dataset(data, ["train"])


def without_crs(root: Path) -> None:
    write_raster(root / "a.tif", noise(HEIGHT, WIDTH), crs=None)


def elsewhere(root: Path) -> None:
    write_labels(root / "a.geojson", [("house", box(1000, 1000, 1010, 1010))])


@pytest.mark.parametrize(
    "change, keys, message",
    [
        (without_crs, {}, "a.geojson cannot be laid over a raster without a coordinate system"),
        (elsewhere, {}, "a.geojson does not overlap .*a.tif"),
        (None, {"attribute": "sort"}, "a.geojson has no attribute 'sort'; it has kind, height"),
        (None, {"train": [{"image": "b*.tif"}]}, r"nothing matches .*b\*.tif"),
        (None, {"train": [{"image": "a.tif", "labels": "b.gpkg"}]}, "no such labels: .*b.gpkg"),
        (None, {"train": []}, "data.maps.train names no maps"),
        (None, {"split": "blocks", "window": 500}, "blocks needs 3 windows"),
    ],
)
def test_what_cannot_be_is_one_line(root, change, keys, message):
    if change is not None:
        change(root)
    with pytest.raises(InputError, match=message) as error:
        MapsSource(root, "train", settings(**keys))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"split": "random"}, "data.maps.split must be null or blocks"),
        ({"train": ["a.tif"]}, "data.maps.train, entry 1 must be"),
        ({"train": [{"image": "a.tif", "label": "b"}]}, "unknown key 'label'.*did you mean 'labels'"),
        ({"line_width": 0.0}, "data.maps.line_width must be metres, above 0"),
        ({"split": "blocks", "val": [{"image": "a.tif"}]}, "leave out data.maps.val"),
    ],
)
def test_wrong_keys_are_config_errors(keys, message):
    with pytest.raises(ConfigError, match=message):
        MapsSource.complete(MapsConfig(**keys))


@pytest.mark.parametrize(
    "keys, message",
    [
        ({}, "b.tif has 5 bands of uint8, but {a} has 3 bands of uint8: say which are used with data.bands"),
        ({"scale": [0, 255]}, "b.tif has 5 bands of uint8, but {a} has 3 bands of uint8: data.scale is for images of "),
        ({"bands": [1, 2, 5]}, "a.tif has 3 bands; data.bands=[1, 2, 5] asks for band 5"),
        ({"bands": [1, 2, 3]}, None),
    ],
)
def test_maps_of_other_bands_in_one_training_are_one_line(root, tmp_path, command, monkeypatch, keys, message):
    monkeypatch.chdir(tmp_path)
    write_raster(root / "b.tif", noise(HEIGHT, WIDTH, bands=5))
    maps = [{"image": name, "labels": "a.geojson"} for name in ("a.tif", "b.tif")]
    data = {"source": "maps", "root": str(root), "classes": {"none": None, "house": "house", "pond": "pond"}}
    data |= {"maps": {"train": maps, "val": maps[:1], "window": 50, "attribute": "kind"}, "image_size": 64, **keys}
    (tmp_path / "maps.yaml").write_text(yaml.safe_dump(TINY | {"data": data}))
    name = "check" if message is None else "train"
    code, _, error = command(name, tmp_path / "maps.yaml", f"run_dir={tmp_path.parent / 'run'}")
    if message is None:
        assert code == 0, error
    else:
        assert code == 2 and message.format(a=root / "a.tif") in error and "more" not in error
        assert len([line for line in error.splitlines() if line.startswith("error: ")]) == 1


def test_what_is_wrong_with_a_map_of_two_splits_is_told_once(root, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maps = [{"image": "a.tif", "labels": "a.geojson"}]
    data = {"source": "maps", "root": str(root), "classes": {"none": None, "house": "house", "pond": "pond"}}
    data |= {"maps": {"train": maps, "val": maps, "window": 50, "attribute": "sort"}, "image_size": 64}
    (tmp_path / "maps.yaml").write_text(yaml.safe_dump(TINY | {"data": data}))
    code, out, _ = command("check", tmp_path / "maps.yaml")
    _, _, wrong = out.partition("wrong (1), training would refuse it:\n")
    assert code == 2 and wrong.splitlines() == [
        f"  train, val: {root / 'a.geojson'} has no attribute 'sort'; it has kind, height"
    ]
    assert "share of pixels" not in out  # a table of nothing


def write_features(path: Path, features: list[tuple[dict, dict | None]]) -> None:
    """GeoJSON of (attributes, geometry) in the coordinates of the map."""
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32616"}}
    features = [{"type": "Feature", "properties": kinds, "geometry": geometry} for kinds, geometry in features]
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def test_whole_numbers_are_written_alike_in_all_files_and_null_is_no_value(root):
    square = box(5, 5, 10, 10)
    for values, names in (
        ([1, 2, None], {"1", "2", "no kind"}),
        ([1.0, 2, None], {"1", "2", "no kind"}),
        ([1, 2, 2.5], {"1", "2", "2.5"}),
        ([True, False, None], {"True", "False", "no kind"}),
        (["1", None], {"1", "no kind"}),
    ):
        write_features(root / "a.geojson", [({"kind": value}, square) for value in values])
        assert set(MapsSource(root, "train", settings()).categories) == names
    data = DataConfig("maps", str(root), classes={"ground": None, "house": "1"}, maps=settings())
    complete_data(data)
    with pytest.raises(InputError, match="^train has category no kind .1 object., not declared"):
        check_dataset(data, ["train"])


def test_an_unclosed_ring_is_closed_and_what_has_no_extent_is_counted(root):
    unclosed = box(10, 20, 30, 50)
    unclosed["coordinates"][0].pop()
    flat = {"type": "Polygon", "coordinates": [ground((1, 1), (9, 1), (5, 1), (1, 1))]}
    write_features(root / "a.geojson", [({"kind": "house"}, one) for one in (unclosed, None, flat)])
    source = MapsSource(root, "train", settings(window=200))
    assert (source.label("a_000_000") == 1).sum() == 20 * 30 and source.categories == {"house": 1}
    assert source.notes == [
        f"{root / 'a.geojson'}: 1 invalid geometries were mended",
        f"{root / 'a.geojson'}: 2 features without a geometry that covers something are left out",
    ]


def test_spikes_and_lines_in_collections_are_no_areas(root):
    spike = {
        "type": "Polygon",
        "coordinates": [ground((10, 10), (40, 10), (110, 80), (40, 10), (40, 40), (10, 40), (10, 10))],
    }
    write_labels(root / "a.geojson", [("house", spike)])
    square = rasterio.features.rasterize([box(10, 10, 40, 40)], (HEIGHT, WIDTH), transform=NORTH_UP)
    np.testing.assert_array_equal(whole_label(root), square)
    np.testing.assert_array_equal(rasterio.features.rasterize([spike], (HEIGHT, WIDTH), transform=NORTH_UP), square)
    line = {"type": "LineString", "coordinates": ground((10.5, 60.5), (100.5, 60.5))}
    inner = {"type": "GeometryCollection", "geometries": [line]}
    both = {"type": "GeometryCollection", "geometries": [box(10, 10, 40, 40), inner]}
    write_labels(root / "a.geojson", [("house", both)])
    with pytest.raises(InputError, match="labels hold 1 lines, which need a size: set data.maps.line_width"):
        whole_label(root)
    label = whole_label(root, line_width=1.5)  # three pixels
    square[59:62, 10:101] = 1
    assert (label != square).sum() <= 2 * 3, "but for its round ends"
    source = MapsSource(root, "train", settings(window=200, line_width=1.5))
    assert np.unique(source.instances("a_000_000")).tolist() == [0, 1] and source.categories == {"house": 1}
    train = [{"image": "a.tif", "labels": "a.geojson", "area": "a.geojson"}]
    source = MapsSource(root, "val", settings(window=200, line_width=1.5, val=train))
    assert source.image("a_000_000").valid.sum() == 30 * 30
    write_labels(root / "line.geojson", [("house", line)])
    with pytest.raises(InputError, match="line.geojson holds no polygons, only lines or points"):
        MapsSource(root, "train", settings(line_width=1.5, train=[train[0] | {"area": "line.geojson"}]))


def test_a_layer_of_several_is_named(root):
    for number, layer in enumerate(("houses", "ponds")):
        square = np.array([shapely.geometry.shape(LABELS[number][1])])
        write = dict(layer=layer, driver="GPKG", geometry_type="Polygon", crs="EPSG:32616", append=number > 0)
        pyogrio.raw.write(root / "a.gpkg", shapely.to_wkb(square), [np.array([layer])], ["kind"], **write)
    train = [{"image": "a.tif", "labels": "a.gpkg"}]
    with pytest.raises(
        InputError, match=r"a.gpkg holds 2 layers .houses, ponds.: name that of labels with data.maps.l"
    ):
        MapsSource(root, "train", settings(train=train))
    assert MapsSource(root, "train", settings(train=train, layer="ponds")).categories == {"ponds": 1}
    with pytest.raises(InputError, match="a.gpkg has no layer 'pond'; it has houses, ponds; did you mean 'ponds'"):
        MapsSource(root, "train", settings(train=train, layer="pond"))


@pytest.mark.parametrize("crs", ["EPSG:32616", "EPSG:4326"])
def test_geoparquet_is_read_as_any_vector_file(root, crs):
    import pyarrow
    from pyarrow import parquet

    write_labels(root / "a.geojson", LABELS, crs)
    meta, _, wkb, columns = pyogrio.raw.read(root / "a.geojson")
    place = {} if crs == "EPSG:4326" else {"crs": json.loads(pyproj.CRS(crs).to_json())}
    about = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"} | place}}
    table = pyarrow.table({"kind": columns[0].tolist(), "height": [3, None, 3], "geometry": wkb.tolist()})
    parquet.write_table(table.replace_schema_metadata({"geo": json.dumps(about)}), root / "a.parquet")
    train = [{"image": "a.tif", "labels": "a.parquet"}]
    np.testing.assert_array_equal(whole_label(root, train=train), whole_label(root))
    assert MapsSource(root, "train", settings(train=train, attribute="height")).categories == {"3": 2, "no height": 1}
    parquet.write_table(table, root / "a.parquet")
    with pytest.raises(InputError, match="a.parquet holds a table without geometries"):
        MapsSource(root, "train", settings(train=train))


def test_a_map_that_exists_is_no_pattern(root):
    (root / "a.tif").rename(root / "scene [1].tif")
    train = [{"image": "scene [1].tif", "labels": "a.geojson"}]
    assert MapsSource(root, "train", settings(train=train, window=200)).names == ["scene [1]_000_000"]


def test_polygons_of_several_parts_are_one_object(root):
    parts = shapely.MultiPolygon(
        [shapely.geometry.shape(box(5, 5, 10, 10)), shapely.geometry.shape(box(5, 15, 10, 20))]
    )
    write_labels(root / "a.geojson", [("house", shapely.geometry.mapping(parts))])
    source = MapsSource(root, "train", settings(window=200))
    assert np.unique(source.instances("a_000_000")).tolist() == [0, 1]
