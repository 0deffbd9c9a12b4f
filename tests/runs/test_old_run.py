"""Runs and exports that earlier versions wrote are read, and give the masks and figures that they gave there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.runs.tensors import save_weights
from tests.encoders.conftest import SMALL
from tests.runs.make_old_run import BASE, COMMITS, EXPORT, RUNS, formula, write_base, write_scenes

OLD = Path(__file__).parent / "old_run"


@pytest.fixture(autouse=True)
def scenes_and_base(tmp_path, monkeypatch):
    assert RUNS["lora"]["model"]["encoder"] == SMALL  # importing it registers it
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "data")
    write_base(tmp_path / BASE)


def write_weights(old: Path, file: Path) -> None:
    kept = json.loads((old / "weights.json").read_text())
    tensors = {key: formula(key, shape, getattr(torch, kind)) for key, (shape, kind) in kept["tensors"].items()}
    save_weights(tensors, file, kept["metadata"])


def assert_same_masks(folder: Path, old: Path) -> None:
    for file in sorted(old.glob("*.png")):
        ours, theirs = (np.asarray(Image.open(path)) for path in (folder / file.name, file))
        assert ours.shape == theirs.shape and len(np.unique(theirs)) > 1
        assert (ours != theirs).mean() < 0.001  # other processors round otherwise


@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("name", RUNS)
def test_an_older_run_gives_the_same_masks_and_figures(name, commit, tmp_path, command):
    run, old = tmp_path / "runs" / name, OLD / commit / name
    run.mkdir(parents=True)
    shutil.copy(old / "config.yaml", run)
    write_weights(old, run / "best.safetensors")
    code, _, stderr = command("infer", run, "--device", "cpu")
    assert code == 0, stderr
    assert_same_masks(run / "predictions", old)
    code, _, stderr = command("evaluate", run)
    assert code == 0, stderr
    ours, theirs = (json.loads((folder / "metrics_test.json").read_text())["test"] for folder in (run, old))
    assert ours["share"] == pytest.approx(theirs["share"]) and ours["miou"] == pytest.approx(theirs["miou"], abs=0.002)


def test_an_older_export_gives_the_same_masks(tmp_path, command):
    write_weights(OLD / COMMITS[-1] / EXPORT, tmp_path / "model.safetensors")
    code, _, stderr = command("infer", "model.safetensors", "data/test/images", "--out", "masks", "--device", "cpu")
    assert code == 0, stderr
    assert_same_masks(tmp_path / "masks", OLD / COMMITS[-1] / EXPORT)
