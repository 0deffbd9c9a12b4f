"""samseg oneshot on files."""

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.cli.main import main

from ..encoders.conftest import SMALL
from ..models.sam_reference import picture, sam_like


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
    return folder


def call(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["oneshot", *map(str, arguments)])
    return end.value.code or 0, *capsys.readouterr()


@pytest.mark.parametrize("mask, classes", [("mask.png", {1}), ("colours.png", {1}), ("classes.png", {1, 3})])
def test_finds_in_a_folder(mask, classes, files, tmp_path, capsys):
    arguments = ["--weights", files / "sam.pth", "--out", tmp_path / "out"]
    code, out, error = call(capsys, files / "reference.png", files / mask, files / "images" / "one.png", *arguments)
    assert code == 0, error
    found = np.asarray(Image.open(tmp_path / "out" / "one.png"))
    assert found.shape == (50, 70) and set(np.unique(found)) - {0} <= classes
    assert Image.open(tmp_path / "out" / "one_overlay.jpg").size == (70, 50)
    assert "1 of 1 images done" in out


@pytest.mark.parametrize(
    "mask, message", [("empty.png", "empty"), ("short.png", "(50, 80)"), ("smooth.png", "smoothed edges")]
)
def test_masks_that_cannot_be_used(mask, message, files, tmp_path, capsys):
    arguments = ["--weights", files / "sam.pth", "--out", tmp_path / "out"]
    code, _, error = call(capsys, files / "reference.png", files / mask, files / "images", *arguments)
    assert code == 2 and message in error and str(files / mask) in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_weights_that_cannot_be_had(files, tmp_path, capsys):
    code, _, error = call(
        capsys, files / "reference.png", files / "mask.png", files / "images", "--out", tmp_path / "out"
    )
    assert code == 2 and "whole SAM" in error and error.count("\n") == 1
