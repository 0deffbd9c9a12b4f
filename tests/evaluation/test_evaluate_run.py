import json

import pytest
import torch

from samseg.common.errors import InputError
from samseg.evaluation.evaluate_run import evaluate_run
from samseg.inference.predictor import Predictor
from samseg.models.build import build_model
from samseg.runs.config.load import load_config, save_config, task_of
from samseg.runs.tensors import save_weights
from samseg.tasks.evaluate import evaluate


@pytest.fixture
def run(tiny_config, tmp_path):
    """A run folder of untrained weights."""
    config = load_config(tiny_config)
    save_config(config, tmp_path / "run" / "config.yaml")
    save_weights(build_model(config.model, classes=3).model.state_dict(), tmp_path / "run" / "best.safetensors")
    return tmp_path / "run"


@pytest.mark.parametrize("resize", [True, False], ids=["whole", "tiled"])
def test_pixels_are_counted_as_the_predictor_classifies_them(run, tiny_config, resize):
    config = load_config(tiny_config, [f"data.resize={resize}", "data.image_size=32"])
    save_config(config, run / "config.yaml")
    found = evaluate_run(run, "val")
    metrics, path = found.figures, found.write()[0]
    predictor = Predictor.from_run(run)
    right = total = 0
    for item in task_of(config).dataset("val", train=False, seed=0):
        counts = item["classes"] != 255
        right += (torch.from_numpy(predictor(item["image"])).long() == item["classes"])[counts].sum().item()
        total += counts.sum().item()
    assert metrics["accuracy"] == pytest.approx(right / total)
    assert path == run / "metrics_val.json" and json.loads(path.read_text()) == {"val": metrics}


def test_reading_processes_and_shares_count_the_same_pixels(run, tiny_config):
    task = task_of(load_config(tiny_config))
    dataset = task.dataset("val", train=False, seed=0)
    model = Predictor.from_run(run, "cpu").model
    device = torch.device("cpu")
    whole = evaluate(model, dataset, task, device).compute()
    assert evaluate(model, dataset, task, device, workers=2).compute() == whole
    shares = [evaluate(model, dataset, task, device, rank=rank, processes=2).compute() for rank in (0, 1)]
    pixels = [
        sum((item["classes"] != 255).sum().item() for item in map(dataset.__getitem__, part)) for part in ([0, 2], [1])
    ]
    together = sum(share["accuracy"] * count for share, count in zip(shares, pixels, strict=True)) / sum(pixels)
    assert together == pytest.approx(whole["accuracy"])


def test_a_split_that_is_missing(run):
    with pytest.raises(InputError, match="holiday"):
        evaluate_run(run, "holiday")
    assert not list(run.glob("metrics*"))
