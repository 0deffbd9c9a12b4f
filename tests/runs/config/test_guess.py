"""What is told of a folder of which nothing is said."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from samseg.common.errors import InputError
from samseg.runs.config.guess import config_for
from tests.data.conftest import write_pair
from tests.data.sources import test_coco, test_labelme


def pairs(root: Path, *masks: np.ndarray) -> Path:
    for number, mask in enumerate(masks):
        write_pair(root / "train", str(number), np.zeros((*mask.shape[:2], 3), np.uint8), mask)
    return root


FEW = np.uint8([[0, 7], [255, 0]])
SMOOTHED = np.arange(100, dtype=np.uint8).reshape(10, 10)
PATCHES = SMOOTHED.repeat(2, 0).repeat(2, 1)
COLOURS = np.uint8([[[255, 0, 0], [0, 0, 0]]])


@pytest.mark.parametrize(
    "masks, classes",
    [
        ([FEW], {"0": 0, "7": 7, "255": 255}),
        ([FEW, SMOOTHED], {"0": 0, "7": 7, "255": 255}),
        ([PATCHES], {str(value): value for value in range(100)}),
        ([COLOURS], {"#000000": "#000000", "#ff0000": "#ff0000"}),
        ([COLOURS, np.zeros((3, 3), np.uint8)], {"#000000": "#000000", "#ff0000": "#ff0000"}),
    ],
)
def test_each_value_is_a_class_but_not_what_smoothing_made(tmp_path, masks, classes):
    data = config_for(pairs(tmp_path, *masks), []).config.data
    assert data.source == "folders" and data.classes == classes


def test_labels_of_other_layouts_are_found_by_their_names(tmp_path):
    test_labelme.write(tmp_path / "labelme", [*test_labelme.SHAPES, test_labelme.CELL | {"label": "background"}])
    data = config_for(tmp_path / "labelme", []).config.data
    names = {"background": [None, "background"], "cell": "cell", "plate": "plate"}
    assert data.source == "labelme" and data.classes == names
    test_coco.write(tmp_path / "coco", test_coco.ANNOTATIONS)
    data = config_for(tmp_path / "coco", []).config.data
    assert data.source == "coco" and data.classes == {"background": None, "cell": "cell", "plate": "plate"}


def test_values_that_stand_at_edges_alone_come_from_antialiasing(tmp_path):
    large = Image.new("RGB", (800, 800))
    ImageDraw.Draw(large).ellipse((90, 110, 700, 650), fill=(255, 0, 0))
    ImageDraw.Draw(large).polygon([(300, 20), (760, 300), (420, 500)], fill=(0, 128, 64))
    drawn = large.resize((100, 100), Image.Resampling.LANCZOS)  # as an editor draws: with soft edges
    with pytest.raises(InputError, match=r"hold \d+ colours, of which \d+ never fill 2 x 2 pixels") as error:
        config_for(pairs(tmp_path, np.array(drawn)), [])
    assert "colours of areas are #000000, #008040, #ff0000" in str(error.value) and "\n" not in str(error.value)
    hard = large.resize((100, 100), Image.Resampling.NEAREST)
    classes = config_for(pairs(tmp_path / "hard", np.array(hard)), []).config.data.classes
    assert list(classes) == ["#000000", "#008040", "#ff0000"]


def test_what_is_said_is_not_guessed(tmp_path):
    data = config_for(pairs(tmp_path, FEW), ["data.classes={a: 0, b: [7, 255]}", "data.image_size=64"]).config.data
    assert data.classes == {"a": 0, "b": [7, 255]} and data.image_size == 64


def test_what_cannot_be_told_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such folder: .*train/images; data.root needs train/"):
        config_for(tmp_path, [])
    many = np.arange(300, dtype=np.uint16).reshape(15, 20).repeat(2, 0).repeat(2, 1)
    with pytest.raises(InputError, match=r"hold 300 values, more than there can be classes \(255\)"):
        config_for(pairs(tmp_path, many), [])
    mask = tmp_path / "train" / "masks" / "0.png"
    mask.write_bytes(b"")
    with pytest.raises(InputError, match="0.png is empty; replace the file"):
        config_for(tmp_path, [])
    shutil.copy(tmp_path / "train" / "images" / "0.png", mask)
    assert Image.open(mask).mode == "RGB"
    with pytest.raises(InputError, match="data.classes names 0 alone"):
        config_for(tmp_path, [])
