"""A run goes to the hub and comes back, on a hub of the tests' own."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import samseg
from samseg.encoders import fetch as fetching
from samseg.models.pretrained import DIGEST
from samseg.runs.config.load import load_config
from samseg.runs.hub.card import FOLDERS
from samseg.runs.hub.pull import _fetched
from samseg.runs.tensors import read_weights
from samseg.tasks.matching import OBJECTS
from samseg.training.run import train
from tests.encoders.conftest import SMALL, SMALL_ARGUMENTS
from tests.encoders.reference import segment_anything_encoder
from tests.hub_server import TOKEN, forget_sessions


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """Runs of an epoch that were trained on SAM's published weights, and on a file of this machine."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    state = segment_anything_encoder(**SMALL_ARGUMENTS).state_dict()
    (folder / "weights" / SMALL).mkdir(parents=True)
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "weights" / SMALL / "encoder.safetensors"
    )
    runs = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetching, "weights_folder", lambda: folder / "weights")
        for name, weights in (("published", "sa-1b"), ("own", str(folder / "weights" / SMALL / "encoder.safetensors"))):
            content = {
                "model": {"encoder": SMALL, "weights": weights, "decoder": {"decoder_channels": [16, 8, 8, 8, 8]}},
                "data": {"root": str(scenes), "classes": {"ground": 0, "a|b": [1, 3], "blue": 2}, "ignore": [9]},
                "train": {"epochs": 1, "workers": 0, "cache_dir": str(folder / "features")},
                "run_dir": str(folder / name),
            }
            content["data"]["image_size"] = 64
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
            runs[name] = train(load_config(folder / f"{name}.yaml"), name)
    return runs


@pytest.fixture
def machine(trained, server, tmp_path, monkeypatch):
    """A folder to work in and a token; SAM's published weights are here."""
    monkeypatch.setattr(fetching, "weights_folder", lambda: trained["folder"] / "weights")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return server


@pytest.mark.parametrize("name", ["published", "own"])
def test_a_published_run_gives_the_same_masks(name, trained, machine, scenes, command):
    run, repository = trained[name], f"user/{name}"
    code, out, error = command("push", run, repository, "--license", "cc-by-4.0")
    assert code == 0, error
    assert f"samseg infer hub:{repository}" in out
    files = machine.repository(repository)
    assert files.keys() - {".gitattributes"} == {
        "README.md", "config.yaml", "best.safetensors", "metrics.json", "history.csv", "curves.png"
    }  # fmt: skip
    for maker in (trained["folder"], scenes, run.parent):
        assert not [file for file, content in files.items() if str(maker).encode() in content]
    if name == "own":
        (trained["folder"] / "weights" / SMALL / "encoder.safetensors").rename(trained["folder"] / "gone")
    try:
        image = scenes / "test" / "images" / "test0.png"
        code, _, error = command("infer", f"hub:{repository}", image)
        assert code == 0, error
        pulled = np.asarray(Image.open(f"hub/{repository}/predictions/test0.png"))
        probabilities = samseg.Predictor.from_run(f"hub:{repository}", "cpu").probabilities(image)
    finally:
        if name == "own":
            (trained["folder"] / "gone").rename(trained["folder"] / "weights" / SMALL / "encoder.safetensors")
    predictor = samseg.Predictor.from_run(run, "cpu")
    np.testing.assert_array_equal(pulled, predictor(image))
    np.testing.assert_array_equal(probabilities, predictor.probabilities(image))


def test_the_card_says_what_a_user_must_know(trained, machine, command):
    assert command("push", trained["published"], "user/town", "--private")[0] == 0
    assert machine.private == {"user/town"}
    card = machine.repository("user/town")["README.md"].decode()
    _, head, text = card.split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["pipeline_tag"] == "image-segmentation" and head["library_name"] == "samseg" and "license" not in head
    digest = read_weights(trained["published"] / "best.safetensors")[1][DIGEST]
    metrics = json.loads((trained["published"] / "metrics.json").read_text())["val"]
    for said in ("| 1 | a\\|b |", "sa-1b", digest, "Apache-2.0", f"{metrics['miou']:.4f}", "Licence: not named"):
        assert said in text, said
    assert re.search(r"\| ground \| \d+\.\d\d % \(6\) \|", text), "shares of the training data"
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert len(code.splitlines()) == 2
    Image.new("RGB", (30, 20)).save("photo.jpg")
    said = {}
    exec(code, said)
    assert said["classes"].shape == (20, 30)


@pytest.mark.parametrize(
    "written, published",
    [
        ("/home/ada/my/train: 3", "train: 3"),
        (r"C:\Users\ada\train, D:/data/val", "train, val"),
        ("https://some.org/data/a and and/or", "https://some.org/data/a and and/or"),
    ],
)
def test_a_card_has_no_folders_of_its_makers_machine(written, published):
    assert FOLDERS.sub("", written) == published


def test_the_card_has_the_scores_of_objects(trained, machine, command):
    shutil.copytree(trained["published"], "town")
    figures = json.loads(Path("town/metrics.json").read_text())["val"]
    row = dict(precision=0.75, recall=0.6, f1=0.667, ap=0.5, mean_iou=None, true=3, missed=2, false=1)
    scores = {"way": "components", "classes": {"a|b": row}}
    Path("town/metrics_test.json").write_text(json.dumps({"test": figures | {OBJECTS: scores}}))
    assert command("push", "town", "user/town")[0] == 0
    card = machine.repository("user/town")["README.md"].decode()
    assert "Objects (components) at IoU 0.5:" in card.partition("On test:")[2]
    assert "| a\\|b | 0.750 | 0.600 | 0.667 | 0.500 | - | 3 | 2 | 1 |" in card


def test_evaluate_export_and_train_take_it(trained, machine, scenes, command):
    command("push", trained["published"], "user/town")
    code, out, error = command("evaluate", "hub:user/town", "--data", scenes)
    assert code == 0, error
    assert "hub/user/town/metrics_test.json" in out
    assert json.loads(open("hub/user/town/metrics_test.json").read())["test"]["miou"] >= 0
    assert command("evaluate", "hub/user/town", "val", "--data", scenes)[0] == 0, "it is a run folder now"
    code, out, error = command("export", "hub:user/town", "--to", "safetensors")
    assert code == 0 and "hub/user/town/model.safetensors" in out, error
    code, out, error = command("train", "hub:user/town", f"data.root={scenes}", "train.epochs=1")
    assert code == 0 and "samseg evaluate runs/town" in out, error
    assert command("infer", "hub:user/town")[0] == 2, "its test images are elsewhere"


def test_without_a_network_it_is_in_the_cache(trained, machine, scenes, tmp_path, command, monkeypatch):
    command("push", trained["published"], "user/town")
    image = scenes / "test" / "images" / "test0.png"
    assert command("infer", "hub:user/town@main", image, "--out", "first")[0] == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    forget_sessions()
    asked = len(machine.requests)
    _fetched.cache_clear()
    assert command("infer", "hub:user/town", image, "--out", "second")[0] == 0
    assert len(machine.requests) == asked
    assert (tmp_path / "work" / "first" / "test0.png").read_bytes() == (tmp_path / "work/second/test0.png").read_bytes()


@pytest.mark.parametrize(
    "token, repository, message",
    [
        (None, "user/town", "the hub wants to know who you are (401): hf auth login, or set HF_TOKEN"),
        ("hf_wrong", "user/town", "the hub wants to know who you are (401)"),
        (TOKEN, "town", "published under USER/NAME, got 'town'"),
        (TOKEN, "user/town@main", "published under USER/NAME"),
        (TOKEN, "user/a--b", "cannot be published as user/a--b"),
    ],
)
def test_what_the_hub_refuses(token, repository, message, trained, machine, command, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    code, _, error = command("push", trained["published"], repository)
    assert code == 2 and message in error and error.count("\n") == 1
    assert not machine.files


def test_what_is_no_run_is_not_published(machine, tmp_path, command):
    code, _, error = command("push", tmp_path, "user/town")
    assert code == 2 and "not a run folder" in error and not machine.files
