"""A raster through a run: the map in the raster's place, what it says of itself, shards, and bad input."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from samseg.common import machine
from samseg.data.raster import Raster
from samseg.data.sources.maps_config import MapsConfig
from samseg.inference.predictor import Predictor
from samseg.maps.options import MapOptions, PolygonOptions
from samseg.maps.products import merge
from samseg.maps.run import MapRun, infer_map, infer_maps, infer_shard
from tests.conftest import SHARED
from tests.data.sources.test_maps import write_labels
from tests.maps.rasters import NORTH_UP, noise, write_raster, write_two_parts
from tests.random_run import write_run

BAHAMAS = SHARED / "maps" / "bahamas.tif"


def classes(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"transform": Affine(0.3, 0.4, 733601, 0.4, -0.3, 3725139)},  # rotated
        {"transform": Affine(0.5, 0, 733601, 0, 0.5, 3725139)},  # south up
        {"crs": "EPSG:4326", "transform": Affine(2.7e-6, 0, -115.2, 0, -2.7e-6, 36.1)},
    ],
    ids=["north up", "rotated", "south up", "degrees"],
)
def test_the_map_is_the_predictors_in_the_rasters_place(run, tmp_path, place):
    pixels = noise(130, 150)
    raster = write_raster(tmp_path / "a.tif", pixels, **place)
    infer_map(run, raster, tmp_path / "out", MapOptions(probabilities="uint8"))
    with rasterio.open(raster) as read, rasterio.open(tmp_path / "out" / "a.tif") as made:
        assert (made.crs, made.transform, made.shape) == (read.crs, read.transform, read.shape)
        assert made.nodata == 255 and made.tags()["CLASS_1"] == "roof" and made.colormap(1)[255][3] == 0
        np.testing.assert_array_equal(made.read(1), run.predictor(Raster(pixels)))
    with rasterio.open(tmp_path / "out" / "a_probabilities.tif") as made:
        stored = made.read() * np.array(made.scales)[:, None, None]
        assert made.descriptions == ("background", "roof", "tree")
    assert np.abs(stored - run.predictor.probabilities(Raster(pixels))).max() < 0.51 / 254
    assert not (tmp_path / "out" / "a.parts").exists()


def test_control_points_are_kept(run, tmp_path):
    points = [GroundControlPoint(row, col, 10 + col, 50 - row) for row, col in ((0, 0), (0, 70), (66, 0), (66, 70))]
    raster = write_raster(tmp_path / "a.tif", noise(66, 70), gcps=points, transform=None)
    infer_map(run, raster, tmp_path / "out", MapOptions())
    with rasterio.open(tmp_path / "out" / "a.tif") as made:
        found, crs = made.gcps
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]
    assert crs.to_epsg() == 32616


def test_large_maps_have_overviews_and_cogs_their_layout(run, tmp_path):
    pixels = np.zeros((3, 1100, 1500), np.uint8)
    pixels[:, 500:600, 700:800] = noise(100, 100)
    raster = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    for out, options in (("plain", MapOptions()), ("cog", MapOptions(cog=True))):
        infer_map(run, raster, tmp_path / out, options)
    with rasterio.open(tmp_path / "plain" / "a.tif") as plain, rasterio.open(tmp_path / "cog" / "a.tif") as cog:
        assert plain.overviews(1) == [2, 4] and cog.overviews(1)
        assert cog.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert cog.tags()["CLASS_2"] == "tree" and cog.colormap(1)[1] == plain.colormap(1)[1]
        np.testing.assert_array_equal(plain.read(1), cog.read(1))


@pytest.mark.skipif(not BAHAMAS.exists(), reason="the real rasters are not here")
def test_nodata_out_where_nodata_in_and_an_overlay(run, tmp_path):
    infer_map(run, BAHAMAS, tmp_path, MapOptions(overwrite=True))
    with rasterio.open(BAHAMAS) as read:
        np.testing.assert_array_equal(classes(tmp_path / "bahamas.tif") == 255, read.dataset_mask() == 0)
    assert (tmp_path / "bahamas_overlay.jpg").stat().st_size > 10_000


def test_nothing_but_nodata_is_done_and_said(run, tmp_path, capsys):
    raster = write_raster(tmp_path / "a.tif", np.zeros((3, 80, 80), np.uint8), nodata=0)
    infer_map(run, raster, tmp_path / "out", MapOptions(polygons=PolygonOptions("gpkg")))
    assert (classes(tmp_path / "out" / "a.tif") == 255).all()
    said = capsys.readouterr().out
    assert "a.tif is done, and nothing but nodata" in said and "0 polygons in" in said


def test_another_resolution_or_range_than_in_training_is_warned_of(tmp_path):
    trained = write_raster(tmp_path / "trained.tif", noise(70, 70).astype(np.float32))
    path = write_run(tmp_path / "run")
    predictor = Predictor.from_run(path, "cpu")
    data = predictor.config.data
    data.source, data.maps, data.scale = "maps", MapsConfig(train=[{"image": str(trained)}]), [0, 255]
    predictor.preprocessing = data.preprocessing
    run = MapRun(predictor, path)
    other = write_raster(tmp_path / "other.tif", 90 * noise(70, 70).astype(np.float32), transform=Affine.scale(2, -2))
    with pytest.warns(UserWarning) as warned:
        infer_map(run, other, tmp_path / "out", MapOptions())
    words = " ".join(str(warning.message) for warning in warned)
    assert "2 m a pixel, and the run was trained at 0.5: try --resolution 0.5" in words
    assert "far outside what the run was trained on" in words


def test_alpha_is_no_band_and_hides(run, tmp_path):
    pixels = noise(80, 80, bands=4)
    pixels[3] = 255
    pixels[3, :, 60:] = 0
    raster = write_raster(tmp_path / "a.tif", pixels, photometric="rgb", alpha="yes")
    infer_map(run, raster, tmp_path / "out", MapOptions())
    assert ((classes(tmp_path / "out" / "a.tif") == 255) == (pixels[3] == 0)).all()


def test_bfloat16_is_the_predictors_and_another_result(tmp_path, monkeypatch, command):
    (tmp_path / "cpuinfo").write_text("flags : avx512_bf16\n")  # torch computes the same without
    monkeypatch.setattr(machine, "CPU", tmp_path / "cpuinfo")
    path, pixels = write_run(tmp_path / "run", encoder="sam-vit_t"), noise(70, 90)
    plain, rounded, said = (
        MapRun(Predictor.from_run(path, "cpu", tile=True, precision=precision), path)
        for precision in (None, "bf16", "fp32")
    )
    raster, out, options = write_raster(tmp_path / "a.tif", pixels), tmp_path / "out", MapOptions()
    made = {run.store(raster, out, options).digest for run in (plain, said)}
    assert len(made) == 1 and rounded.store(raster, out, options).digest not in made
    infer_shard(plain, raster, out, options, 1, 1)
    call = ("infer", path, raster, "--out", out, "--device", "cpu")
    code, _, error = command(*call, "--precision", "bf16")
    assert code == 2 and "parts of another result (precision was None, is bf16)" in error
    assert error.count("\n") == 1 and not (out / "a.tif").exists()
    code, _, error = command(*call, "--precision", "bf16", "--shard", "1/1", "--out", tmp_path / "rounded")
    assert code == 0, error
    with pytest.raises(ValueError, match="precision was bf16, is None"):
        infer_map(plain, raster, tmp_path / "rounded", options)
    merge(tmp_path / "rounded" / "a.parts")
    np.testing.assert_array_equal(classes(tmp_path / "rounded" / "a.tif"), rounded.predictor(Raster(pixels)))
    code, done, error = command(*call, "--precision", "bf16", "--out", tmp_path / "rounded")
    assert code == 0 and "finished already" in done, error
    code, _, error = command(*call, "--precision", "auto", "--out", tmp_path / "auto")
    assert code == 2 and "name bf16 or fp32" in error and error.count("\n") == 1 and not (tmp_path / "auto").exists()


def test_averaging_over_turns_makes_the_map_turn_with_the_raster(run, tmp_path):
    pixels, plain = noise(40, 64), run.predictor
    averaging = MapRun(Predictor(plain.model, plain.config, "cpu", tile=True, tta="d4"), run.path)
    maps = []
    for name, turned in (("a", pixels), ("b", np.rot90(pixels, 1, (1, 2)))):
        infer_map(averaging, write_raster(tmp_path / f"{name}.tif", turned), tmp_path / "out", MapOptions())
        maps.append(classes(tmp_path / "out" / f"{name}.tif"))
    assert (np.rot90(maps[0]) == maps[1]).mean() > 0.999  # sums in another order
    assert (averaging.predictor(Raster(pixels)) == maps[0]).all() and (plain(Raster(pixels)) != maps[0]).any()


def test_bounds_limit_the_map_and_leave_its_pixels(run, tmp_path):
    raster = write_raster(tmp_path / "a.tif", noise(200, 200))
    infer_map(run, raster, tmp_path / "whole", MapOptions())
    left, top = NORTH_UP @ (30, 20)
    right, bottom = NORTH_UP @ (90, 110)
    infer_map(run, raster, tmp_path / "part", MapOptions(bounds=(left, bottom, right, top)))
    whole, part = classes(tmp_path / "whole" / "a.tif"), classes(tmp_path / "part" / "a.tif")
    np.testing.assert_array_equal(part[20:110, 30:90], whole[20:110, 30:90])
    assert (part != 255).sum() == 90 * 60


def test_an_area_in_other_coordinates_limits_the_map_and_says_what_it_mended(run, tmp_path):
    raster = write_raster(tmp_path / "a.tif", noise(120, 120))
    ring = [list(NORTH_UP @ pixel) for pixel in ((20, 20), (100, 100), (100, 20), (20, 100), (20, 20))]
    bow = {"type": "Polygon", "coordinates": [ring]}
    area = write_labels(tmp_path / "area.geojson", [("", bow)], "EPSG:4326")
    with pytest.warns(UserWarning, match="area.geojson: 1 invalid geometries were mended"):
        infer_map(run, raster, tmp_path / "out", MapOptions(area=area))
    rows, columns = np.indices((120, 120)) + 0.5
    inside = (np.abs(rows - 60) < np.abs(columns - 60)) & (np.abs(columns - 60) < 40)  # the bow's two halves
    clear = np.abs(np.abs(rows - 60) - np.abs(columns - 60)) > 1.5
    np.testing.assert_array_equal((classes(tmp_path / "out" / "a.tif") != 255)[clear], inside[clear])


def test_bands_in_another_order(run, tmp_path):
    pixels = noise(70, 70, bands=4)
    raster = write_raster(tmp_path / "a.tif", pixels)
    infer_map(run, raster, tmp_path / "out", MapOptions(bands=(4, 1, 2)))
    np.testing.assert_array_equal(classes(tmp_path / "out" / "a.tif"), run.predictor(Raster(pixels[[3, 0, 1]])))


def test_resampled_to_another_resolution(run, tmp_path):
    raster = write_raster(tmp_path / "a.tif", noise(100, 140))
    infer_map(run, raster, tmp_path / "out", MapOptions(resolution=1.0))
    with rasterio.open(tmp_path / "out" / "a.tif") as made:
        assert made.shape == (50, 70) and made.res == (1, 1)
        assert made.bounds == rasterio.open(raster).bounds
        assert (made.read(1) != 255).all()


def test_shards_merge_to_the_map_of_one_machine(run, tmp_path):
    raster = write_two_parts(tmp_path / "a.tif", width=90)
    options = MapOptions(probabilities="float16")
    infer_map(run, raster, tmp_path / "one", options)
    for index in (2, 1):
        infer_shard(run, raster, tmp_path / "two", options, index, 2)
        if index == 2:
            with pytest.raises(ValueError, match="lacks 1 of 2 parts"):
                merge(tmp_path / "two" / "a.parts")
    merge(tmp_path / "two" / "a.parts")
    np.testing.assert_array_equal(classes(tmp_path / "one" / "a.tif"), classes(tmp_path / "two" / "a.tif"))
    ones, twos = (rasterio.open(tmp_path / out / "a_probabilities.tif").read() for out in ("one", "two"))
    np.testing.assert_array_equal(ones, twos)


@pytest.mark.parametrize("cog", [False, True])
def test_probabilities_in_16_bits(run, tmp_path, cog):
    """The predictor's to the nearest float16, NaN where the raster holds no data, also in overviews."""
    pixels = np.zeros((3, 600, 100), np.uint8)
    pixels[:, :130, 20:] = noise(130, 80)
    raster, out = write_raster(tmp_path / "a.tif", pixels, nodata=0), tmp_path / "out"
    infer_map(run, raster, out, MapOptions(probabilities="float16", polygons=PolygonOptions("gpkg"), cog=cog))
    valid = (pixels != 0).any(axis=0)
    with rasterio.open(out / "a_probabilities.tif") as made:
        assert made.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "16" and np.isnan(made.nodata)
        stored = made.read()
        assert made.descriptions == ("background", "roof", "tree")
    wanted = run.predictor.probabilities(Raster(pixels, valid))
    assert (np.isnan(stored) == ~valid).all()
    np.testing.assert_allclose(stored[:, valid], wanted[:, valid], rtol=2**-11, atol=2**-24)
    assert (stored.argmax(0) == classes(out / "a.tif"))[valid].mean() > 0.99  # two may round to one number
    with rasterio.open(out / "a_probabilities.tif", overview_level=0) as small:
        assert np.isnan(small.read()[:, 70:]).all() and np.nanmax(small.read()) <= 1
    with pytest.raises(ValueError, match="finished, without a_probabilities.tif as it is asked for; --overwrite"):
        infer_map(run, raster, out, MapOptions(probabilities="uint8", cog=cog))


def test_a_finished_map_stays_and_another_is_not_overwritten(run, tmp_path, capsys):
    raster, out = write_raster(tmp_path / "a.tif", noise(70, 70)), tmp_path / "out"
    infer_map(run, raster, out, MapOptions())
    before = (out / "a.tif").stat().st_mtime_ns
    infer_map(run, raster, out, MapOptions())
    assert (out / "a.tif").stat().st_mtime_ns == before and "finished already" in capsys.readouterr().out
    with pytest.raises(ValueError, match="made of another raster, run or options"):
        infer_map(run, raster, out, MapOptions(skip_damaged=True))
    write_raster(raster, noise(70, 70, seed=1))
    infer_map(run, raster, out, MapOptions(overwrite=True))
    np.testing.assert_array_equal(classes(out / "a.tif"), run.predictor(Raster(noise(70, 70, seed=1))))


def damaged(path: Path) -> Path:
    """A raster of which one block of 64 x 64 cannot be decompressed."""
    write_raster(path, noise(192, 192), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    return path


def test_damaged_in_the_middle(run, tmp_path):
    raster = damaged(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="a.tif cannot be read in rows .* --skip-damaged"):
        infer_map(run, raster, tmp_path / "out", MapOptions())
    assert not (tmp_path / "out" / "a.tif").exists()
    infer_map(run, raster, tmp_path / "skipped", MapOptions(skip_damaged=True))
    with rasterio.open(tmp_path / "skipped" / "a.tif") as made:
        assert made.tags()["SAMSEG_DAMAGED_BLOCKS"] == "1"
        holes = made.read(1) == 255
    rows, columns = np.nonzero(holes)
    assert holes.sum() == 64 * 64 and rows.min() % 64 == columns.min() % 64 == 0


def test_one_of_many_that_cannot_be_read_is_skipped(run, tmp_path, capsys):
    good = write_raster(tmp_path / "good.tif", noise(70, 70))
    gone = tmp_path / "gone.vrt"
    source = "<SourceFilename>nowhere.tif</SourceFilename><SourceBand>1</SourceBand>"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>{source}</SimpleSource></VRTRasterBand>'
        for band in (1, 2, 3)
    )
    gone.write_text(f'<VRTDataset rasterXSize="70" rasterYSize="70">{bands}</VRTDataset>')
    assert infer_maps(run, [gone, good], tmp_path / "out", MapOptions()) == 1
    assert "gone.vrt" in (error := capsys.readouterr().err) and "nowhere.tif" in error
    assert (tmp_path / "out" / "good.tif").exists()


@pytest.mark.parametrize(
    "bands, dtype, options, message",
    [
        (2, "uint8", {}, "two bands"),
        (1, "uint16", {}, "data.scale is null, which is for 8-bit"),
        (3, "uint8", {"bands": (1, 2, 7)}, "3 bands, and band 7 is asked for"),
        (3, "uint8", {"bands": (1, 2)}, "takes 3 bands, and --bands names 2"),
        (3, "uint8", {"bounds": (0, 0, 1, 1)}, "does not touch"),
        (3, "uint8", {"area": Path("nowhere.gpkg")}, "nowhere.gpkg"),
        (3, "uint8", {"bounds": (733630, 3725100, 733610, 3725120)}, "LEFT BOTTOM RIGHT TOP.* got 733630 3725100"),
        (3, "uint8", {"bounds": (733610, 3725120, 733630, 3725100)}, "BOTTOM less than TOP"),
        (3, "uint8", {"bounds": (float("-inf"), 3725100, 733630, 3725120)}, "got -inf"),
        (3, "uint8", {"resolution": 1e-9}, "pixels at 1e-09 m a pixel, and has 0.5 m itself"),
        (3, "uint8", {"resolution": float("inf")}, "above 0; got inf"),
    ],
)
def test_what_cannot_be_is_one_line(run, tmp_path, bands, dtype, options, message):
    raster = write_raster(tmp_path / "a.tif", noise(70, 70, bands).astype(dtype))
    with pytest.raises(ValueError, match=message) as error:
        infer_map(run, raster, tmp_path / "out", MapOptions(**options))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "a.tif").exists()


@pytest.mark.parametrize("option", ["min_area", "simplify"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_sizes_that_are_none(option, value):
    with pytest.raises(ValueError, match="must not be negative, nor infinite"):
        PolygonOptions("gpkg", **{option: value})


def test_an_area_of_points_alone(run, tmp_path):
    raster = write_raster(tmp_path / "a.tif", noise(70, 70))
    point = {"type": "Point", "coordinates": list(NORTH_UP @ (30, 30))}
    area = write_labels(tmp_path / "area.geojson", [("", point)], "EPSG:32616")
    with pytest.raises(ValueError, match="area.geojson holds no polygons, only lines or points"):
        infer_map(run, raster, tmp_path / "out", MapOptions(area=area))


def test_names_that_would_collide(run, tmp_path, command):
    raster, again = write_raster(tmp_path / "a.tif", noise(70, 70)), tmp_path / "other" / "a.tif"
    again.parent.mkdir()
    write_raster(again, noise(70, 70))
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="other/a.tif and .*a.tif would both be written to .*out/a.tif; rename one"):
        infer_maps(run, [raster, again], tmp_path / "out", MapOptions())
    with pytest.raises(ValueError, match="holds the input a.tif"):
        infer_maps(run, [raster], tmp_path, MapOptions())
    code, _, error = command("infer", run.path, raster, tmp_path / "a.png", "--out", tmp_path / "out")
    assert code == 2 and "would both be written to" in error and "a_overlay.jpg" in error
    assert not (tmp_path / "out").exists()


def test_parts_of_another_result_and_rasters_of_other_bands(run, tmp_path, command):
    raster = write_raster(tmp_path / "a.tif", noise(70, 70))
    other = write_raster(tmp_path / "b.tif", noise(70, 70, bands=1))
    infer_shard(run, raster, tmp_path / "out", MapOptions(), 1, 1)
    for again in (infer_map, partial(infer_shard, index=1, count=1)):
        with pytest.raises(ValueError, match="parts of another result .*skip_damaged was False, is True.*--overwrite"):
            again(run, raster, tmp_path / "out", MapOptions(skip_damaged=True))
    infer_shard(run, raster, tmp_path / "out", MapOptions(skip_damaged=True, overwrite=True), 1, 1)
    merge(tmp_path / "out" / "a.parts")
    code, _, error = command("infer", run.path, raster, other, "--out", tmp_path / "others")
    assert code == 2 and f"b.tif has 1 bands and {raster} has 3; say which are used with --bands" in error
    assert not (tmp_path / "others").exists()
