import os
import signal
from functools import partial

import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import InputError
from samseg.sample.scene import render_scene
from samseg.sample.write import write_sample
from tests.processes import start, wait_until


def test_the_sample_is_laid_out_as_a_data_set(tmp_path):
    root = tmp_path / "data" / "sample"
    root.mkdir(parents=True)  # an empty folder is no obstacle
    write_sample(root, train=5, val=1, test=2, size=64)
    assert list(root.parent.iterdir()) == [root]
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    expected = [
        f"{split}/{folder}/scene_{index:03}.png"
        for split, count in (("test", 2), ("train", 5), ("val", 1))
        for folder in ("images", "masks")
        for index in range(count)
    ]
    assert found == expected
    for path in root.rglob("images/*.png"):
        with Image.open(path) as image, Image.open(path.parents[1] / "masks" / path.name) as mask:
            assert image.mode == "RGB" and image.size == (64, 64)
            assert mask.mode == "L" and mask.size == (64, 64) and mask.getextrema()[1] <= 3
    assert len({path.read_bytes() for path in root.rglob("images/*.png")}) == 8  # no scene twice


def test_the_files_hold_what_was_rendered(tmp_path):
    write_sample(tmp_path / "sample", train=2, val=0, test=0, size=64)
    image, classes = render_scene(1, 64)
    assert np.array_equal(np.array(Image.open(tmp_path / "sample/train/images/scene_001.png")), image)
    assert np.array_equal(np.array(Image.open(tmp_path / "sample/train/masks/scene_001.png")), classes)


def test_another_seed_makes_another_sample(tmp_path):
    for seed in (0, 1):
        write_sample(tmp_path / str(seed), train=1, val=1, test=0, size=64, seed=seed)
    for split in ("train", "val"):
        first, second = (tmp_path / str(seed) / split / "images/scene_000.png" for seed in (0, 1))
        assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_already_is_left_alone(tmp_path, kind):
    root = tmp_path / "sample"
    kept = root / "mine.txt" if kind == "folder" else root
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(InputError, match="sample exists and is not an empty folder") as caught:
        write_sample(root, train=1, val=0, test=0, size=32)
    assert "\n" not in str(caught.value)
    assert kept.read_text() == "mine" and len(list(tmp_path.rglob("*"))) == (2 if kind == "folder" else 1)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interrupted_run_leaves_nothing_behind(tmp_path):
    root = tmp_path / "sample"
    process = start(partial(write_sample, train=5000, size=64), root, folder=tmp_path.parent)
    try:
        wait_until(lambda: list(tmp_path.rglob("masks/*.png")), process)
        assert not root.exists()
        os.kill(process.pid, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 1, "a KeyboardInterrupt that went through"
    finally:
        process.kill()
    assert list(tmp_path.iterdir()) == []
