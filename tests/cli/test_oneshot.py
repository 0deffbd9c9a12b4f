"""samseg oneshot on files."""

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.inference import each
from samseg.inference.oneshot.files import read_reference
from tests.encoders.conftest import SMALL
from tests.models.sam.reference import picture, sam_like


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small SAM's checkpoint (it works at 1024 px), an example with its masks, and a folder of images."""
    folder = tmp_path_factory.mktemp("oneshot")
    torch.manual_seed(0)
    torch.save(sam_like(SMALL).state_dict(), folder / "sam.pth")
    Image.fromarray(picture(60, 80)).save(folder / "reference.png")
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 20:50] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    colours = np.zeros((60, 80, 3), np.uint8)
    colours[10:40, 20:50] = picture(60, 80)[10:40, 20:50] | 1
    Image.fromarray(colours).save(folder / "colours.png")
    Image.fromarray(mask // 255 * 3 + (np.arange(80) < 10).astype(np.uint8)).save(folder / "classes.png")
    Image.fromarray(0 * mask).save(folder / "empty.png")
    Image.fromarray(mask[:50]).save(folder / "short.png")
    Image.fromarray(picture(60, 80)[..., 0]).save(folder / "smooth.png")
    (folder / "images").mkdir()
    for name in ("one", "two"):
        Image.fromarray(picture(50, 70)).save(folder / "images" / f"{name}.png")
    Image.new("RGB", (300, 200)).save(folder / "images" / "large.png")
    return folder


def test_finds_in_a_folder_what_fits_into_memory(files, tmp_path, command, monkeypatch):
    monkeypatch.setattr(each, "memory_bytes", lambda: 8 * 200 * 300 - 1)
    arguments = ["--weights", files / "sam.pth", "--out", tmp_path / "out", "--pair"]
    arguments += [files / "reference.png", files / "mask.png"]
    code, out, error = command("oneshot", files / "reference.png", files / "classes.png", files / "images", *arguments)
    assert code == 1 and "large.png is too large for this machine's memory" in error
    for name in ("one", "two"):
        found = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert found.shape == (50, 70) and set(np.unique(found)) - {0} <= {1, 3}
        assert Image.open(tmp_path / "out" / f"{name}_overlay.jpg").size == (70, 50)
    assert "2 of 3 images done" in out


def test_masks_of_every_kind(files):
    for name in ("mask.png", "colours.png"):
        image, mask = read_reference(files / "reference.png", files / name)
        assert image.shape == (60, 80, 3) and mask.sum() == 900 and (mask[10:40, 20:50] == 1).all()
    classes = read_reference(files / "reference.png", files / "classes.png")[1]
    assert np.unique(classes).tolist() == [0, 1, 3] and (classes == 3).sum() == 900


@pytest.mark.parametrize(
    "mask, message", [("empty.png", "empty"), ("short.png", "(50, 80)"), ("smooth.png", "smoothed edges")]
)
def test_masks_that_cannot_be_used(mask, message, files, tmp_path, command):
    arguments = ["--weights", files / "sam.pth", "--out", tmp_path / "out"]
    code, _, error = command("oneshot", files / "reference.png", files / mask, files / "images", *arguments)
    assert code == 2 and message in error and str(files / mask) in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_weights_that_cannot_be_had(files, tmp_path, command):
    code, _, error = command(
        "oneshot", files / "reference.png", files / "mask.png", files / "images", "--out", tmp_path / "out"
    )
    assert code == 2 and "whole SAM" in error and error.count("\n") == 1
