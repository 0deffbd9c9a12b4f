"""A task that shares nothing with semantic segmentation goes through the same trainer, state, report and evaluation."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from samseg.common.errors import ConfigError, InputError, Terminated
from samseg.evaluation.evaluate_run import evaluate_run
from samseg.runs.config.load import load_config
from samseg.runs.load import load_run
from samseg.runs.tensors import read_weights
from samseg.tasks import TASKS
from samseg.training.run import train
from tests.conftest import TINY
from tests.tasks.height import HeightTask
from tests.training.test_trainer import history, sigterm_in


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Train the second task on towers of random height, brighter where they are higher; returns the run folder."""
    monkeypatch.setitem(TASKS, "height", HeightTask)
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for split, images in (("train", 4), ("val", 2), ("test", 1)):
        (tmp_path / "towers" / split).mkdir(parents=True)
        for number in range(images):
            height = np.zeros((64, 64), np.float32)
            for _ in range(3):
                top, left = generator.integers(0, 44, 2)
                height[top : top + 20, left : left + 20] = generator.uniform(3, 9)
            image = np.repeat((25 * height).astype(np.uint8)[..., None], 3, axis=2)
            height[:4] = np.nan
            Image.fromarray(image).save(tmp_path / "towers" / split / f"{number}.png")
            np.save(tmp_path / "towers" / split / f"{number}.npy", height)
    content = TINY | {"task": "height", "data": {"root": "towers", "image_size": 64}}
    (tmp_path / "height.yaml").write_text(yaml.safe_dump(content))
    return lambda *overrides: train(load_config("height.yaml", list(overrides)), "height")


def test_it_trains_and_reports(trained, capsys):
    folder = trained("train.epochs=5")
    rows = history(folder)
    assert list(rows[0]) == ["epoch", "loss", "lr", "val_rmse"]
    errors = [float(row["val_rmse"]) for row in rows]
    best = json.loads((folder / "metrics.json").read_text())
    assert best["epoch"] == 1 + errors.index(min(errors)) and best["val"]["rmse"] == min(errors)
    said = capsys.readouterr().out
    assert "val RMSE" in said and "root mean squared error" in said and "mIoU" not in said
    assert Image.open(folder / "curves.png").width > 1000 and Image.open(folder / "validation.png").height > 800


def test_the_lowest_error_is_evaluated(trained):
    folder = trained()
    found = evaluate_run(folder, "val")
    assert found.figures["rmse"] == pytest.approx(json.loads((folder / "metrics.json").read_text())["val"]["rmse"])
    assert found.table.startswith("root mean squared error")
    with pytest.raises(InputError, match="--objects compares .* and this run's task knows none: leave it out"):
        evaluate_run(folder, "val", objects="auto")
    assert evaluate_run(folder, "test").write()[0].name == "metrics_test.json"
    assert load_run(folder)[0].segmentation_head[0].out_channels == 1


def test_it_resumes_within_an_epoch(trained, tmp_path, monkeypatch):
    whole = trained("run_dir=whole")
    resumed = ["run_dir=cut", "train.resume=true"]
    with monkeypatch.context() as patch:
        patch.setattr("samseg.training.trainer.check_finite", sigterm_in(2, 1))
        with pytest.raises(Terminated):
            trained(*resumed)
    cut = trained(*resumed)
    assert history(cut) == history(whole)
    ours, theirs = (read_weights(folder / "best.safetensors")[0] for folder in (cut, whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_settings_of_another_task_are_refused(trained):
    with pytest.raises(ConfigError, match="train.loss is for task: semantic, but task is height"):
        trained("train.loss.dice=1")
    with pytest.raises(
        ConfigError, match="task must be one of semantic, .*height, got 'hight'; did you mean 'height'?"
    ):
        trained("task=hight")
