"""YOLO's polygons: what is drawn of a line, and what is said of lines that are none."""

from pathlib import Path

import numpy as np
import pytest

from samseg.common.errors import InputError
from samseg.data.check import check_dataset
from samseg.data.sources.yolo import YoloConfig, YoloSource
from tests.data import exports
from tests.data.sources.contract import SourceContract, config


@pytest.fixture
def root(tmp_path) -> Path:
    exports.yolo_of_roboflow(tmp_path)
    return tmp_path


class TestYolo(SourceContract):
    @pytest.fixture
    def source(self, root) -> YoloSource:
        return YoloSource(root, "train", YoloConfig())


def test_objects_are_told_apart_and_counted(root):
    source = YoloSource(root, "train", YoloConfig())
    assert source.categories == {"cell": 3, "plate": 3}
    assert np.array_equal(source.instances("a"), exports.truth("a"))
    assert source.describe_label("a") == str(root / "train" / "labels" / "a.txt")


def test_images_without_a_text_file_are_background_and_text_files_without_an_image_are_told(root):
    labels = root / "train" / "labels"
    (labels / "a.txt").rename(labels / "gone.txt")
    (labels / "classes.txt").write_text("cell\nplate\n")
    source = YoloSource(root, "train", YoloConfig())
    assert not source.label("a").any()
    assert source.notes == [
        "train: 1 text file (gone.txt) without an image: left out",
        "train: 1 image (a) without annotations counts as background",
    ]


def test_classes_without_names_are_called_by_their_numbers(root):
    (root / "train" / "labels" / "a.txt").write_text("7 0 0 0.5 0 0.5 1 0 1\n\n")
    source = YoloSource(root, "train", YoloConfig(names=None))
    assert source.categories == {"0": 2, "1": 2, "7": 1}
    assert source.label("a")[:, :24].min() == 3 and not source.label("a")[:, 24:].any()


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 0.5 0.5 0.2 0.2", r"labels/a.txt: line 2 is a box \(class x y width height\); segmentation needs polygons"),
        ("0 0.1 0.1 0.2", "line 2 holds 4 numbers; a polygon is a class and 3 points or more"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "line 2 holds 8 numbers"),
        ("0.5 0.1 0.1 0.2 0.2 0.3 0.3", "line 2 holds 7 numbers"),
        ("cell 0.1 0.1 0.2 0.2 0.3 0.3", "line 2 holds 'cell 0.1"),
        ("0 10 10 20 10 20 20", "line 2: its points are not from 0 to 1, shares of the image's width and height"),
        ("0 0.1 nan 0.2 0.2 0.3 0.3", "line 2: its points are not from 0 to 1"),
        ("5 0.1 0.1 0.2 0.2 0.3 0.3", "line 2 is of class 5, which has no name"),
    ],
)
def test_lines_that_are_no_polygon_are_one_line(root, line, message):
    file = root / "train" / "labels" / "a.txt"
    file.write_text(file.read_text().splitlines()[0] + "\n" + line + "\n")
    data = config("yolo", root)
    with pytest.raises(InputError, match=message) as error:
        check_dataset(data, ["train"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["nc: 2", "names: 3", "a: [", "names: {a: b}"])
def test_names_that_cannot_be_read(root, content):
    (root / "data.yaml").write_text(content)
    with pytest.raises(InputError, match="data.yaml has no names of classes under the key names"):
        YoloSource(root, "train", YoloConfig())
    (root / "data.yaml").unlink()
    with pytest.raises(InputError, match="no such file: .*data.yaml; data.yolo.names says which file"):
        YoloSource(root, "train", YoloConfig())


def test_folders_that_are_missing(root):
    with pytest.raises(InputError, match="no such folder: .*none; data.yolo.annotations says where the text files lie"):
        YoloSource(root, "train", YoloConfig(annotations="none"))
    with pytest.raises(InputError, match="no such folder: .*none; data.yolo.images says where the images lie"):
        YoloSource(root, "train", YoloConfig(images="none"))
