"""samseg infer from the command line, on a run of random weights."""

from functools import partial
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from PIL import Image

from tests.faults import make_read_only, small_disk
from tests.maps.rasters import noise, write_raster
from tests.random_run import write_run


@pytest.fixture
def infer(work, monkeypatch, command):
    """Run the command in ``work``."""
    monkeypatch.chdir(work)
    return partial(command, "infer")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A working directory with runs/model and two scenes in data/test/images, of which one is damaged."""
    folder = tmp_path_factory.mktemp("work")
    write_run(folder / "runs" / "model", root="data")
    images = folder / "data" / "test" / "images"
    images.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    Image.fromarray(pixels).save(images / "b.tif")
    with open(images / "b.tif", "r+b") as file:
        file.truncate(20_000)
    return folder


def test_without_arguments_the_newest_run_does_its_test_split(work, infer):
    code, said, errors = infer()
    out = work / "runs" / "model" / "predictions"
    assert code == 1, "one image is damaged"
    assert "b.tif" in errors and "Traceback" not in errors
    assert "runs/model/predictions/a_overlay.jpg" in said.splitlines()[-1]
    assert {file.name for file in out.iterdir()} == {"a.png", "a_overlay.jpg", "legend.png"}
    classes = np.asarray(Image.open(out / "a.png"))
    assert classes.shape == (90, 130) and set(np.unique(classes)) <= {0, 1, 2}


def test_one_image_in_tiles_with_probabilities_elsewhere(work, infer):
    image = "data/test/images/a.png"
    assert infer("runs/model", image, "--out", "whole", "--device", "cpu", "--probabilities", "--whole")[0] == 0
    assert infer(image, "--out", "tiled", "--probabilities", "--tile")[0] == 0
    whole, tiled = np.load(work / "whole" / "a.npy"), np.load(work / "tiled" / "a.npy")
    assert whole.shape == tiled.shape == (3, 90, 130)
    assert np.abs(whole - tiled).max() > 1e-3, "two ways of seeing the image"
    np.testing.assert_array_equal(np.asarray(Image.open(work / "tiled" / "a.png")), tiled.argmax(0))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["runs/typo"], "no such image, folder or run: runs/typo"),
        (["runs/model", "--device", "cuda:99"], "device cuda:99 cannot be used"),
        (["--out", "data/test/images"], "holds the input"),
        (["--objects", "--probabilities"], "--probabilities are of classes, and --objects gives objects of"),
        (["--to", "coco", "--probabilities"], "--probabilities are of classes, and --to gives objects of"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(work, infer, arguments, message):
    code, _, stderr = infer(*arguments)
    assert code == 2
    assert len(stderr.splitlines()) == 1 and message in stderr
    assert {file.name for file in (work / "data/test/images").iterdir()} == {"a.png", "b.tif"}


def test_maps_with_objects_as_polygons_one_of_them_damaged(work, infer):
    write_raster(work / "maps" / "a.tif", noise(70, 90))
    damaged = write_raster(work / "maps" / "b.tif", noise(200, 200))
    damaged.write_bytes(damaged.read_bytes()[:30_000])
    given = ["maps", "--polygons", "gpkg", "--out", "objects"]
    code, said, errors = infer("runs/model", *given, "--objects")
    assert code == 1 and "b.tif cannot be read in rows" in errors and "Traceback" not in errors
    meta, _, _, columns = pyogrio.raw.read(work / "objects" / "a.gpkg")
    numbers = dict(zip(meta["fields"], columns))["object"]
    assert f"{len(numbers)} polygons in" in said and numbers.tolist() == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--objects"], "c.tif is a map, whose objects are polygons; name a format"),
        (["--objects", "amg", "--polygons", "gpkg"], "whose objects are connected areas; leave out amg"),
        (["--polygons", "gpkg"], "c.tif has no coordinate system, which polygons need"),
        (["--whole"], "is seen in tiles; leave out --whole"),
    ],
)
def test_what_cannot_be_had_of_a_map(work, infer, arguments, message):
    write_raster(work / "c.tif", noise(70, 90), crs=None)
    code, _, errors = infer("runs/model", "c.tif", "--out", "none", *arguments)
    assert code == 2 and message in errors and len(errors.splitlines()) == 1
    assert not (work / "none" / "c.tif").exists()


def test_figures_are_printed_before_a_disk_may_refuse_them(command, scenes, tmp_path):
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        run = write_run(disk / "run", root=str(scenes))
        text = (run / "config.yaml").read_text()
        for name, value in (("background", "ground"), ("roof", "green"), ("tree", "blue")):
            text = text.replace(f"{name}:", f"{value}:")
        (run / "config.yaml").write_text(text.replace("ignore: []", "ignore: [9, 3]"))
        make_read_only(disk)
        code, out, errors = command("evaluate", run)
        assert code == 2 and "mean / all" in out
        assert errors.startswith("error: ") and "metrics_test.json cannot be written (Read-only file system)" in errors
