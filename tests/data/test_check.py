"""The check before the first step: its counts against a count by hand, its complaints, its table."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import InputError
from samseg.data.check import DataProblems, balanced_weights, check_dataset
from samseg.data.config import DataConfig
from tests.conftest import SHARED
from tests.data.conftest import write_pair


def masks(data: DataConfig, split: str) -> list[np.ndarray]:
    return [np.array(Image.open(path)) for path in sorted((Path(data.root) / split / "masks").iterdir())]


def test_pixels_and_images_are_counted_per_class(data):
    report = check_dataset(data, ["train", "val"])
    for split in ("train", "val"):
        arrays = masks(data, split)
        counts = report.splits[split]
        assert counts.images == len(arrays)
        assert report.class_pixels(split) == [sum(int((a == value).sum()) for a in arrays) for value in (0, 7)]
        assert counts.occurs == [sum((a == value).any() for a in arrays) for value in (0, 7)]
        assert counts.ignored == sum(int((a == 9).sum()) for a in arrays)
    assert report.warnings == []


def test_the_table_shows_the_shares(data):
    for number, array in enumerate(([[0, 0], [0, 7]], [[9, 0], [0, 0]])):
        write_pair(Path(data.root) / "small", str(number), np.full((2, 2, 3), number, np.uint8), np.uint8(array))
    lines = str(check_dataset(data, ["small"])).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines] == [
        "small",
        "85.71 % (2)",
        "14.29 % (1)",
        "12.50 %",
        "2",
        "2 x 2",
    ]
    assert len({len(line) for line in lines}) == 1


def test_every_file_is_read_before_anything_is_raised(data):
    root = Path(data.root)
    (root / "train/images/train1.png").write_bytes((root / "train/images/train1.png").read_bytes()[:500])
    Image.fromarray(np.full((30, 20), 5, np.uint8)).save(root / "train/masks/train2.png")
    Image.new("L", (3, 3)).save(root / "val/masks/val0.png")
    (root / "test/masks/test0.png").unlink()
    with pytest.raises(DataProblems) as raised:
        check_dataset(data, ["train", "val", "test"])
    found = [(problem.split, problem.name) for problem in raised.value.problems]
    assert found == [("test", "test0"), ("train", "train1"), ("train", "train2"), ("val", "val0")]
    assert raised.value.report.images("train") == 1 and raised.value.report.class_pixels("test") == [0, 0]
    text = str(raised.value)
    assert "\n" not in text and "(and 3 more: " in text
    for part in (
        "test0.png is without mask",
        "train1.png cannot be read",
        "train2.png: mask value 5 (600 pixels)",
        "is 3 x 3",
    ):
        assert part in text


def test_many_problems_stay_one_readable_line(data):
    for number in range(20):
        for kind in ("images", "masks"):
            (Path(data.root) / "train" / kind / f"bad{number:02}.png").touch()
    with pytest.raises(InputError, match=r"bad00.png .* \(and 19 more: .*bad05.png .* and 14 more\)$"):
        check_dataset(data, ["train"])


def test_a_class_that_is_not_in_train_is_warned_of(data):
    data.classes = {"ground": 0, "roof": 7, "lake": 3}
    report = check_dataset(data, ["train", "val"])
    assert report.warnings == ["class lake never occurs in train, so it cannot be learnt"]
    assert "warning: class lake" in str(report)
    assert check_dataset(data, ["val"]).warnings == []


def test_an_image_in_two_splits_is_warned_of(data):
    root = Path(data.root)
    for kind in ("images", "masks"):
        shutil.copy(root / f"train/{kind}/train1.png", root / f"val/{kind}/again.png")
    warnings = check_dataset(data, ["train", "val", "test"]).warnings
    assert warnings == ["train and val share 1 image(s), so the scores of one flatter: train1.png = again.png"]


def test_masks_in_colours(data):
    table = np.zeros((10, 3), np.uint8)
    table[7], table[9] = (255, 0, 0), (1, 1, 1)
    counted = check_dataset(data, ["train"])
    for path in (Path(data.root) / "train/masks").iterdir():
        Image.fromarray(table[np.array(Image.open(path))]).save(path)
    data.classes, data.ignore = {"ground": "#000000", "roof": [255, 0, 0]}, [[1, 1, 1]]
    assert check_dataset(data, ["train"]).splits == counted.splits


def test_balanced_weights_make_every_class_weigh_the_same():
    pixels = [900, 90, 0, 10]
    weights = balanced_weights(pixels)
    totals = [weight * count for weight, count in zip(weights, pixels, strict=True)]
    assert weights[2] == 0 and totals[0] == pytest.approx(totals[1]) == pytest.approx(totals[3])
    assert sum(totals) == pytest.approx(sum(pixels))
    assert balanced_weights([0, 0]) == [0, 0]


@pytest.mark.parametrize(
    "name, classes, ignore, images",
    [
        ("inria", {"background": 0, "building": 255}, [], [25, 9, 7]),
        ("camvid", {str(i): i for i in range(11)}, [11], [60, 20, 20]),
    ],
)
def test_real_data(name, classes, ignore, images):
    root = SHARED / name
    if not root.is_dir():
        pytest.skip("no real images here")
    report = check_dataset(DataConfig(root=str(root), classes=classes, ignore=ignore), ["train", "val", "test"])
    assert [split.images for split in report.splits.values()] == images and not report.warnings
