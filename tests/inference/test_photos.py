import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import InputError
from samseg.inference import each
from samseg.inference.inputs import run_and_images
from samseg.inference.photos import predict_images
from samseg.inference.predictor import Predictor
from samseg.predict.draw import palette
from samseg.runs.export import export
from tests.faults import make_read_only, small_disk
from tests.random_run import write_run


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    return Predictor.from_run(write_run(tmp_path_factory.mktemp("run")), "cpu")


def picture(path: Path, height: int = 40, width: int = 56) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = len(path.name) + height
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return path


def contents(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_first_path_is_the_run_if_it_is_one(tmp_path):
    run = write_run(tmp_path / "run")
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "scenes" / "b.TIF")
    picture(tmp_path / "scenes" / "deeper" / "c.png")
    (tmp_path / "scenes" / "notes.txt").touch()
    assert run_and_images([run, a, tmp_path / "scenes"]) == (run, [a, b])
    assert run_and_images([run, a, tmp_path / "scenes", tmp_path / "scenes" / "b.TIF", a])[1] == [a, b], "each once"


def test_the_newest_run_and_its_test_split_are_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no trained run under runs"):
        run_and_images([])
    for age, name in enumerate(["newest", "older"]):
        write_run(tmp_path / "runs" / name, root="my data")
        os.utime(tmp_path / "runs" / name / "best.safetensors", (1e9 - age, 1e9 - age))
    with pytest.raises(InputError, match="the test images of runs/newest are not there .*my data/test/images"):
        run_and_images([])
    tested, other = picture(tmp_path / "my data/test/images/a.png"), picture(tmp_path / "b.jpg")
    newest = Path("runs/newest")
    assert run_and_images([]) == (newest, [tested.relative_to(tmp_path)])
    assert run_and_images([Path("runs/older")])[0] == Path("runs/older")
    assert run_and_images([other]) == (newest, [other])


def test_paths_that_mean_nothing_are_refused(tmp_path):
    run, image = write_run(tmp_path / "run"), picture(tmp_path / "a.png")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    for paths, message in (
        ([run, tmp_path / "typo.png"], "no such image, folder or run: .*typo.png"),
        ([tmp_path / "runs" / "typo"], "no such image, folder or run: .*typo"),
        ([run, tmp_path / "notes.txt"], "notes.txt is not an image"),
        ([run, tmp_path / "empty"], "empty holds no images"),
        ([image, run], "run is a run; give one run, before the images"),  # not: classify its curves.png
        ([run, run], "give one run"),
    ):
        with pytest.raises(InputError, match=message):
            run_and_images(paths)


def test_class_map_overlay_and_legend_are_written(predictor, tmp_path, capsys):
    images = [picture(tmp_path / "in" / "a.png"), picture(tmp_path / "in" / "b.c.tif", 33, 90)]
    assert predict_images(predictor, images, tmp_path / "new" / "out") == 0
    out = tmp_path / "new" / "out"
    assert contents(out) == {"a.png", "a_overlay.jpg", "b.c.png", "b.c_overlay.jpg", "legend.png"}
    for path in images:
        with Image.open(out / f"{path.stem}.png") as map_:
            assert map_.mode == "P"
            classes = np.asarray(map_)
            assert map_.getpalette()[:9] == [value for colour in palette(3) for value in colour]
        np.testing.assert_array_equal(classes, predictor(path))
        assert Image.open(out / f"{path.stem}_overlay.jpg").size == Image.open(path).size
    assert str(out / "a_overlay.jpg") in capsys.readouterr().out.splitlines()[-1]
    assert predict_images(predictor, images, out) == 0, "a second time, over the first"


@pytest.mark.parametrize("tile", [True, False])
def test_probabilities_are_those_of_the_class_map(predictor, tmp_path, tile):
    predictor = Predictor(predictor.model, predictor.config, "cpu", tile=tile)
    path = picture(tmp_path / "in" / "a.png", 150, 70)
    predict_images(predictor, [path], tmp_path / "out", probabilities=True)
    probabilities = np.load(tmp_path / "out" / "a.npy")
    assert probabilities.shape == (3, 150, 70) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(0), np.asarray(Image.open(tmp_path / "out" / "a.png")))
    np.testing.assert_array_equal(probabilities, predictor.probabilities(path))


def test_damaged_images_are_reported_and_skipped(predictor, tmp_path, capsys):
    images = [tmp_path / "in" / "broken.png", *(picture(tmp_path / "in" / f"{name}.jpg") for name in "ab")]
    images[0].write_bytes(b"no picture")
    images[1].write_bytes(images[1].read_bytes()[:500])
    assert predict_images(predictor, images, tmp_path / "out") == 2
    assert contents(tmp_path / "out") == {"b.png", "b_overlay.jpg", "legend.png"}
    captured = capsys.readouterr()
    assert "broken.png" in captured.err and "a.jpg" in captured.err
    assert "1 of 3 images" in captured.out and "2 skipped" in captured.out and "b_overlay.jpg" in captured.out
    assert predict_images(predictor, images[:1], tmp_path / "none") == 1


def test_nothing_is_written_over_an_input_or_twice(predictor, tmp_path):
    a, again = picture(tmp_path / "in" / "a.png"), picture(tmp_path / "other" / "a.tif")
    same, legend = picture(tmp_path / "in" / "a.jpg"), picture(tmp_path / "in" / "legend.tif")
    for images, out, message in (
        ([a, again], tmp_path / "out", "a.tif and .*a.png would both be written to .*out/a.png"),
        ([a, same], tmp_path / "out", "a.jpg and .*a.png would both"),
        ([a, legend], tmp_path / "out", "legend.tif and the legend of the colours would both"),
        ([a], tmp_path / "in" / ".." / "in", "holds the input a.png"),
        ([a], same, "cannot make the folder"),
    ):
        before = a.read_bytes(), same.read_bytes()
        with pytest.raises(InputError, match=message):
            predict_images(predictor, images, out)
        assert not (tmp_path / "out").exists() and (a.read_bytes(), same.read_bytes()) == before


def test_overlay_of_a_map_is_shrunk_to_what_a_viewer_opens(predictor, tmp_path):
    path = picture(tmp_path / "in" / "a.png", 30, 8192)
    predict_images(predictor, [path], tmp_path / "out")
    assert Image.open(tmp_path / "out" / "a_overlay.jpg").size == (4096, 15)
    assert Image.open(tmp_path / "out" / "a.png").size == (8192, 30)
    shrunk = np.asarray(Image.open(tmp_path / "out" / "a_overlay.jpg")).mean()
    assert abs(shrunk - cv2.imread(str(path)).mean()) < 80


def test_masks_of_the_same_name_are_not_lost_but_earlier_class_maps_are_renewed(predictor, tmp_path):
    image, mask = picture(tmp_path / "images" / "a.jpg"), picture(tmp_path / "masks" / "a.png")
    before = mask.read_bytes()
    with pytest.raises(InputError, match=r"masks/a.png exists, .*name another --out"):
        predict_images(predictor, [image], tmp_path / "masks")
    assert mask.read_bytes() == before and contents(tmp_path / "masks") == {"a.png"}
    for _ in range(2):
        assert predict_images(predictor, [image], tmp_path / "out") == 0


def test_an_exported_file_stands_for_a_run(tmp_path):
    run, image = write_run(tmp_path / "run"), picture(tmp_path / "a.png")
    file = export(run, "safetensors", tmp_path / "town.safetensors")
    assert run_and_images([file, image]) == (file, [image])
    with pytest.raises(InputError, match="test images of .*town.safetensors are not there"):
        run_and_images([file])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="pipe.png is neither a file nor a folder"):
        run_and_images([write_run(tmp_path / "run"), tmp_path / "pipe.png"])


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_an_image_too_large_for_memory_is_skipped_and_the_next_one_is_not(predictor, tmp_path, capsys, error):
    images = [picture(tmp_path / "in" / "large.png"), picture(tmp_path / "in" / "small.png")]

    def rows(image):
        if image is not small:
            raise error
        return Predictor.rows(predictor, image)

    small = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "rows", rows)
        assert predict_images(predictor, images[:1], tmp_path / "out") == 1
    assert "skipped: " in (told := capsys.readouterr().err) and "large.png is too large for this machine's" in told
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(each, "memory_bytes", lambda: 40 * 56 * 8 - 1)
        assert predict_images(predictor, [*images, picture(tmp_path / "in" / "tiny.png", 8, 8)], tmp_path / "out") == 2
    assert contents(tmp_path / "out") == {"tiny.png", "tiny_overlay.jpg", "legend.png"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="a defect"):
        error = RuntimeError("a defect")
        patch.setattr(predictor, "rows", rows)
        predict_images(predictor, images, tmp_path / "out")


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("kib", [8, 12, 20])
def test_a_full_disk_leaves_no_part_of_a_file(predictor, tmp_path, kib, probabilities):
    path = picture(tmp_path / "in" / "a.png", 150, 70)
    with small_disk(tmp_path / "disk", kib) as disk:
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\): make room there"):
            predict_images(predictor, [path], disk, probabilities)
        for file in disk.iterdir():
            assert not file.name.startswith(".")
            if file.suffix == ".npy":
                np.testing.assert_allclose(np.load(file).sum(0), 1, atol=1e-5)
            else:
                Image.open(file).load()  # raises for a part


def test_a_read_only_disk(predictor, tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        make_read_only(disk)
        with pytest.raises(InputError, match="legend.png cannot be written .Read-only file system"):
            predict_images(predictor, [picture(tmp_path / "a.png")], disk)
