"""samseg infer --objects on runs of random weights: with prompts, with SAM's weights underneath, and without SAM."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from samseg.inference import each
from samseg.inference.objects.find import by_components
from samseg.inference.predictor import Predictor
from samseg.models.sam.files import empty_sam
from samseg.models.sam.save import save_sam
from samseg.runs.config.load import load_config, save_config, task_of
from samseg.runs.folder import WEIGHTS
from samseg.runs.sam import base_sam, load_sam
from samseg.runs.tensors import save_weights
from tests.encoders.conftest import SMALL
from tests.models.sam.reference import picture, randomised
from tests.random_run import write_run


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(picture(60, 80)).save(folder / "a.png")
    Image.fromarray(picture(50, 40)).save(folder / "b.png")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "sam.pth"
    save_sam(randomised(empty_sam(SMALL, 128)), path)
    return path


def write_sam_run(folder, **sections):
    """A run of SAM's small encoder with random weights; ``sections`` of its configuration."""
    data = {"root": "nowhere", "classes": {"background": 0, "cell": 255}, "image_size": 128}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data, **sections}, sort_keys=False))
    config = load_config(folder / "config.yaml")
    save_config(config, folder / "config.yaml")
    torch.manual_seed(0)
    save_weights(task_of(config).build_model(pretrained=False).model.state_dict(), folder / WEIGHTS)
    return folder


def promptable(folder, none=0.5):
    model = {"arch": "sam", "encoder": SMALL, "weights": None, "freeze_encoder": False}
    return write_sam_run(folder, task="promptable", model=model, prompts={"none": none})


def test_components_of_any_run(images, tmp_path, command):
    run = write_run(tmp_path / "run")
    code, out, error = command("infer", run, images, "--objects", "--device", "cpu")
    assert code == 0, error
    predictor = Predictor.from_run(run, "cpu")
    annotations = json.loads((run / "objects" / "annotations.json").read_text())
    total = 0
    for number, name in enumerate(("a", "b"), start=1):
        expected = by_components(predictor(images / f"{name}.png"))
        written = cv2.imread(str(run / "objects" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert written.dtype == np.uint16 and np.array_equal(written, expected.map)
        of_image = [one for one in annotations["annotations"] if one["image_id"] == number]
        assert [one["category_id"] for one in of_image] == [label + 1 for label in expected.classes]
        sure = predictor.probabilities(images / f"{name}.png").max(axis=0)
        means = [sure[expected.map == object_number].mean() for object_number in range(1, len(of_image) + 1)]
        assert 0.3 < max(means) < 1 and np.allclose([one["score"] for one in of_image], means, atol=1e-6)
        assert (run / "objects" / f"{name}_overlay.jpg").is_file()
        total += len(of_image)
    assert [category["name"] for category in annotations["categories"]] == predictor.classes
    assert f"{total} objects in 2 of 2 images (components)" in out


def test_no_object_lies_where_a_photo_is_transparent(images, tmp_path, command):
    pixels = np.dstack([picture(60, 80), np.full((60, 80), 255, np.uint8)])
    pixels[:, :30, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    run = write_run(tmp_path / "run")
    assert command("infer", run, tmp_path / "cut.png", "--objects", "--device", "cpu")[0] == 0
    found = cv2.imread(str(run / "objects" / "cut.png"), cv2.IMREAD_UNCHANGED)
    assert found.any() and not found[:, :30].any()


def test_an_image_too_large_for_memory_is_skipped(images, tmp_path, command, monkeypatch):
    monkeypatch.setattr(each, "memory_bytes", lambda: 8 * 60 * 80 - 1)
    code, out, error = command("infer", write_run(tmp_path / "run"), images, "--objects", "--out", tmp_path / "out")
    assert code == 1 and "a.png is too large for this machine's memory" in error and "in 1 of 2 images" in out
    written = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [one["file_name"] for one in written["images"]] == ["b.png"] and not (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize("way", [None, "prompts", "amg"])
def test_ways_of_a_promptable_run(way, images, tmp_path, command):
    run = promptable(tmp_path / "run")
    arguments = ["--objects"] + ([way] if way else [])
    code, out, error = command("infer", run, images / "a.png", "--out", tmp_path / "out", *arguments)
    assert code == 0, error
    assert f"({way or 'prompts'})" in out and (tmp_path / "out" / "a.png").is_file()


def test_the_sam_of_a_run_is_its_own(images, tmp_path):
    run = promptable(tmp_path / "run")
    predictor = Predictor.from_run(run, "cpu")
    sam = load_sam(run)
    expected = predictor.model.mask_decoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in sam.mask_decoder.state_dict().items())
    assert sam.image_encoder.img_size == 128 and not sam.training


def test_prompts_with_the_sam_a_run_started_from(images, checkpoint, tmp_path, command):
    model = {"arch": "unet", "encoder": SMALL, "weights": str(checkpoint), "freeze_encoder": False}
    run = write_sam_run(tmp_path / "run", model=model)
    sam = base_sam(load_config(run / "config.yaml"))
    assert sam.image_encoder.img_size == 128
    code, out, error = command("infer", run, images / "a.png", "--objects", "prompts", "--out", tmp_path / "out")
    assert code == 0, error
    assert "(prompts)" in out


@pytest.mark.parametrize("way, message", [("prompts", "prompts alone"), ("components", "prompts alone")])
def test_classes_that_nobody_predicts(way, message, images, tmp_path, command):
    run = promptable(tmp_path / "run", none=0.0)
    code, _, error = command("infer", run, images, "--objects", way, "--out", tmp_path / "out")
    assert code == 2 and message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_run_without_any_sam(images, tmp_path, command):
    run = write_run(tmp_path / "run")
    for way in ("prompts", "amg"):
        code, _, error = command("infer", run, images, "--objects", way)
        assert code == 2 and "--objects components" in error and error.count("\n") == 1
