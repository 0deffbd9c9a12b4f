"""A dry run leaves a picture and no run; every run keeps the picture of what it saw."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samseg.predict.draw import IGNORED, palette
from samseg.runs.config.load import load_config, task_of


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pixels(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(-1).sum())


def test_samples_are_what_training_is_given_with_its_truth(tiny_config):
    config = load_config(tiny_config, ["data.augment=[{HorizontalFlip: {p: 1.0}}]"])
    task = task_of(config)
    dataset = task.dataset("train", train=True, seed=0)
    mask = dataset[0]["classes"].numpy()
    page = task.samples(dataset)
    plain, truth = page[28:448, 12:432], page[28:448, 444:864]
    assert pixels(plain, IGNORED) == 0
    assert pixels(truth, IGNORED) == pytest.approx((mask == 255).mean() * truth[..., 0].size, rel=0.01)
    rows, columns = np.nonzero((truth == palette(3)[1]).all(-1))  # the border of the green square
    expected = np.nonzero(mask == 1)
    for found, true in zip((rows, columns), expected, strict=True):
        assert [found.min() / 420, found.max() / 420] == pytest.approx(
            [true.min() / 64, (true.max() + 1) / 64], abs=0.01
        )
    dataset.use_features(None)
    assert np.array_equal(task.samples(dataset), page)


def test_it_says_what_an_epoch_takes_and_leaves_no_run(tiny_config, command):
    code, out, _ = command("train", tiny_config, "--dry-run", "train.epochs=7")
    assert code == 0 and "share of pixels" in out and "trainable: " in out
    found = re.search(
        r"an epoch takes about [\d.]+ s \(.* of 3 steps, .* of 3 validation images\), 7 epochs .* GB", out
    )
    assert found and "what training sees: samples.png" in out
    assert Image.open("samples.png").size[0] > 1000 and not Path("runs").exists()


def test_it_refuses_what_training_would(tiny_config, command):
    code, _, stderr = command("train", tiny_config, "--dry-run", "train.lr=1e30", "train.epochs=1")
    assert code == 2 and stderr.startswith("error: the loss is ") and not Path("runs").exists()
    code, _, stderr = command("train", tiny_config, "--dry-run", "data.root=nowhere")
    assert code == 2 and "nowhere/train" in stderr and stderr.count("\n") == 1


def test_a_run_keeps_its_samples_and_a_dry_run_leaves_it_alone(tiny_config, command):
    settings = ["run_dir=run", "train.epochs=1"]
    assert command("train", tiny_config, *settings)[0] == 0
    assert Image.open("run/samples.png").size[0] > 1000
    before = {path.name: path.stat().st_mtime_ns for path in Path("run").glob("*.pt")}
    code, out, _ = command("train", tiny_config, *settings, "train.resume=true", "--dry-run")
    assert code == 0 and "run is finished already, after 1 epoch: there is nothing to try" in out
    assert {path.name: path.stat().st_mtime_ns for path in Path("run").glob("*.pt")} == before
    code, _, stderr = command("train", tiny_config, *settings, "--dry-run")
    assert code == 2 and "run already holds a run" in stderr
