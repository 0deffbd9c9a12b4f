"""Run folders that an older version wrote are read, and give the masks and figures that they gave there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.runs.tensors import save_weights
from tests.encoders.conftest import SMALL
from tests.runs.make_old_run import BASE, RUNS, formula, write_base, write_scenes

OLD = Path(__file__).parent / "old_run"


@pytest.mark.parametrize("name", RUNS)
def test_an_older_run_gives_the_same_masks_and_figures(name, tmp_path, monkeypatch, command):
    assert RUNS["lora"]["model"]["encoder"] == SMALL  # importing it registers it
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "data")
    write_base(tmp_path / BASE)
    run, old = tmp_path / "runs" / name, OLD / name
    run.mkdir(parents=True)
    shutil.copy(old / "config.yaml", run)
    kept = json.loads((old / "weights.json").read_text())
    tensors = {key: formula(key, shape, getattr(torch, kind)) for key, (shape, kind) in kept["tensors"].items()}
    save_weights(tensors, run / "best.safetensors", kept["metadata"])

    code, _, stderr = command("infer", run, "--device", "cpu")
    assert code == 0, stderr
    for file in sorted(old.glob("*.png")):
        ours, theirs = (np.asarray(Image.open(path)) for path in (run / "predictions" / file.name, file))
        assert ours.shape == theirs.shape and len(np.unique(theirs)) == 3
        assert (ours != theirs).mean() < 0.001  # other processors round otherwise
    code, _, stderr = command("evaluate", run)
    assert code == 0, stderr
    ours, theirs = (json.loads((folder / "metrics_test.json").read_text())["test"] for folder in (run, old))
    assert ours["share"] == pytest.approx(theirs["share"]) and ours["miou"] == pytest.approx(theirs["miou"], abs=0.002)
