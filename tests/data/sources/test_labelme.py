"""labelme's files: what is drawn of each kind of shape, what lies on top, and what is said of bad ones."""

import base64
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import ConfigError, InputError
from samseg.data.check import check_dataset
from samseg.data.sources.labelme import LabelmeConfig, LabelmeSource
from tests.conftest import SHARED
from tests.data.sources.contract import SourceContract, config

HEIGHT, WIDTH = 20, 30


def shape(label: str, kind: str | None, points: list, **more) -> dict:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, "mask": None} | more


def encoded(mask: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(content, "PNG")  # of 0 and 1, as labelme writes it
    return base64.b64encode(content.getvalue()).decode()


PLATE = shape("plate", "polygon", [[2, 2], [19, 2], [19, 14], [2, 14]])
CELL = shape("cell", "rectangle", [[12, 9], [5, 6]])
SHAPES = [PLATE, CELL, shape("cell", "rectangle", [[22, 0], [25, 3]], group_id=1)]
SHAPES.append(shape("cell", "rectangle", [[27, 0], [28, 3]], group_id=1))


def write(root: Path, shapes: list, split: str = "train", **changes) -> Path:
    """a.png with its shapes, b.png with none of them, c.png without a JSON file; the first of the JSON files."""
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    for name, drawn in (("a", shapes), ("b", [])):
        content = {"version": "5.5.0", "flags": {}, "shapes": drawn, "imagePath": f"{name}.png", "imageData": None}
        content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH} | (changes if name == "a" else {})
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / "a.json"


@pytest.fixture
def root(tmp_path) -> Path:
    write(tmp_path, SHAPES)
    return tmp_path


class TestLabelme(SourceContract):
    @pytest.fixture
    def source(self, root) -> LabelmeSource:
        return LabelmeSource(root, "train", LabelmeConfig())


def test_the_later_shape_lies_on_top_and_a_group_is_one_object(root):
    source = LabelmeSource(root, "train", LabelmeConfig())
    label, objects = np.zeros((2, HEIGHT, WIDTH), int)
    label[2:15, 2:20], objects[2:15, 2:20] = 2, 1
    label[6:10, 5:13], objects[6:10, 5:13] = 1, 2
    for columns in (slice(22, 26), slice(27, 29)):
        label[0:4, columns], objects[0:4, columns] = 1, 3
    assert np.array_equal(source.label("a"), label) and np.array_equal(source.instances("a"), objects)
    assert not source.label("b").any()
    assert source.categories == {"cell": 2, "plate": 1}
    write(root, [CELL, PLATE])
    assert LabelmeSource(root, "train", LabelmeConfig()).label("a")[7, 7] == 2
    notes = ["train: 1 image (b) without shapes: background", "train: 1 image (c.png) without a JSON file: left out"]
    assert source.names == ["a", "b"] and source.notes == notes


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(columns - x, rows - y) <= radius


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


RING = np.pad(np.zeros((2, 3)), 1, constant_values=1)
INSIDE = box(4, 6, 8, 11) & ~box(5, 7, 7, 10)


@pytest.mark.parametrize(
    "kind, points, expected",
    [
        ("circle", [[10, 9], [10, 14]], disc(10, 9, 5)),
        ("point", [[20, 8]], disc(20, 8, 3)),
        ("line", [[4, 10], [12, 10]], box(9, 4, 12, 13)),
        ("linestrip", [[4, 10], [12, 10], [20, 10]], box(9, 4, 12, 21)),
        ("mask", [[6, 4], [10, 7]], INSIDE),
        ("mask", [[27, 18], [31, 21]], np.pad(RING, ((18, 0), (27, 0)))[:HEIGHT, :WIDTH] > 0),
        ("rectangle", [[25, 15], [40, 40]], box(15, 25, 20, 30)),
        (None, [[5, 5], [10, 5], [10, 9], [5, 9]], box(5, 5, 10, 11)),
        ("rotation", [[5, 5], [10, 5], [10, 9], [5, 9]], box(5, 5, 10, 11)),
        ("rectangle", [[5, 5], [10, 5], [10, 9], [5, 9]], box(5, 5, 10, 11)),
    ],
)
def test_each_kind_is_drawn(tmp_path, kind, points, expected):
    write(tmp_path, [shape("cell", kind, points, mask=encoded(RING) if kind == "mask" else None)])
    label = LabelmeSource(tmp_path, "train", LabelmeConfig(line_width=3, point_radius=3)).label("a")
    differ = (label > 0) != expected
    border = cv2.morphologyEx(expected.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    assert not (differ & ~border).any() and (kind in ("circle", "point") or not differ.any())


def test_labels_become_classes_by_name_from_folders_of_their_own(root):
    (root / "json").mkdir()
    write(root, [CELL], "val")
    for split in ("train", "val"):
        (root / "json" / split).mkdir()
        for name in "ab":
            (root / split / f"{name}.json").rename(root / "json" / split / f"{name}.json")
    data = config("labelme", root, labelme=LabelmeConfig(annotations="json/{split}"))
    report = check_dataset(data, ["train", "val"])
    assert report.class_pixels("val") == [2 * HEIGHT * WIDTH - 32, 32, 0]
    assert "train: 1 image (c.png) without a JSON file: left out" in report.warnings


@pytest.mark.parametrize(
    "bad, message",
    [
        (
            shape("cell", "polygon", [[31, 2], [40, 2], [40, 9]]),
            r"shape 1 \(cell\) lies outside of its image, from \(31",
        ),
        (shape("cell", "polygon", [[1, 2], [4, 2]]), r"has 2 point\(s\), a polygon has 3 or more"),
        (shape("cell", "polygone", [[1, 2], [4, 2], [3, 3]]), "is a polygone, which cannot .* mean 'polygon'"),
        (shape("cell", "polygon", [[1, 2], [4, "2"], [3, 3]]), r"its points are no list of \[x, y\]"),
        (shape("cell", "polygon", [[1, 2], [4, float("nan")], [3, 3]]), r"its points are no list of \[x, y\]"),
        (
            shape("cell", "line", [[1, 2], [4, 2]]),
            "is a line: say how many pixels it takes with data.labelme.line_width",
        ),
        (shape("cell", "mask", [[1, 2], [4, 5]], mask="AAAA"), "its mask is no PNG in base64"),
        (shape("cell", "mask", [[1, 2], [4, 5]]), "its mask is no PNG in base64"),
        (
            shape("cell", "polygon", [[0.1, 0.2], [0.7, 0.2], [0.7, 0.9]]),
            "has coordinates from 0 to 1 alone, and labelme's are pixels",
        ),
        (shape(1.5, "polygon", [[1, 2], [4, 2], [3, 3]]), "shape 1 has the name 1.5; names are text"),
        (shape("cell", ["polygon"], [[1, 2], [4, 2], [3, 3]]), r"is a \['polygon'\], which cannot be drawn"),
        ({"points": []}, "shape 1 has no label"),
        ("cell", "shape 1 has no label"),
    ],
)
def test_shapes_that_cannot_be_are_one_line(tmp_path, bad, message):
    write(tmp_path, [bad])
    with pytest.raises(InputError, match=f"a.json: .*{message}") as error:
        check_dataset(config("labelme", tmp_path), ["train"])
    assert "\n" not in str(error.value)


def test_a_label_may_be_a_number(tmp_path):
    write(tmp_path, [shape(1, "rectangle", [[12, 9], [5, 6]]), shape("1", "rectangle", [[2, 2], [3, 3]])])
    source = LabelmeSource(tmp_path, "train", LabelmeConfig())
    assert source.categories == {"1": 2} and source.label("a").sum() == 4 * 8 + 4


def test_sizes_are_whole_numbers_or_left_out(tmp_path):
    for size in ({"imageWidth": 30.0}, {"imageWidth": None}):
        write(tmp_path, [CELL], **size)
        assert LabelmeSource(tmp_path, "train", LabelmeConfig()).label("a").any()
    write(tmp_path, [CELL], imageWidth="30")
    with pytest.raises(InputError, match='a.json has imageWidth "30"; write the image\'s, a number of pixels'):
        check_dataset(config("labelme", tmp_path), ["train"])


def test_shapes_of_which_nothing_is_drawn_are_counted_and_named(tmp_path):
    empty = shape("cell", "mask", [[6, 4], [10, 7]], mask=encoded(np.zeros((4, 5))))
    corner = shape("cell", "polygon", [[-9, 5], [5, -9], [-9, -9]])  # its box reaches into the image, it does not
    write(tmp_path, [CELL, empty, corner])
    report = check_dataset(config("labelme", tmp_path), ["train"])
    assert report.class_pixels("train")[1] == 32
    assert "train: 2 objects (shape 2 of a.json, shape 3 of a.json) of which no pixel lies in the image" in str(report)


def test_all_files_that_are_wrong_are_told_at_once(root):
    train = root / "train"
    (train / "c.json").write_text("{")
    (train / "d.json").write_text('{"shapes": [], "imagePath": "..\\\\photos\\\\d.jpg"}')
    (train / "e.json").write_text('{"images": []}')
    (train / "f.bmp").touch()
    (train / "f.json").write_text('{"shapes": [], "imagePath": "f.bmp"}')
    write(root, [], imageWidth=31)
    with pytest.raises(InputError, match=r"\(and 4 more: ") as error:
        check_dataset(config("labelme", root), ["train"])
    for part in (
        f"a.json was drawn on an image of 31 x 20 pixels, but {train / 'a.png'} is 30 x 20",
        "c.json cannot be read as JSON",
        "d.json: its image (d.jpg) is gone",
        "e.json is no labelme file",
        "f.bmp: make of the image f.png, .tif or .jpg",
    ):
        assert part in str(error.value)


def test_folders_that_are_missing_or_empty(root):
    with pytest.raises(InputError, match="no such folder: .*/val"):
        LabelmeSource(root, "val", LabelmeConfig())
    with pytest.raises(InputError, match="no such folder: .*/train/json; data.labelme.annotations"):
        LabelmeSource(root, "train", LabelmeConfig(annotations="{split}/json"))
    (root / "train" / "json").mkdir()
    with pytest.raises(InputError, match="train/json holds no JSON files"):
        LabelmeSource(root, "train", LabelmeConfig(annotations="{split}/json"))
    with pytest.raises(ConfigError, match=r"data.labelme.images must hold \{split\}"):
        config("labelme", root, labelme=LabelmeConfig(images="images"))
    with pytest.raises(ConfigError, match="data.labelme.line_width must be pixels, 1 or more, got 0"):
        config("labelme", root, labelme=LabelmeConfig(line_width=0))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images here")
def test_real_outlines_come_back(tmp_path):
    """Nuclei as an annotator would have drawn them: the outlines of true objects, drawn, are these objects."""
    source = SHARED / "nuclei" / "val"
    (tmp_path / "val").mkdir()
    image = sorted((source / "images").iterdir())[0]
    objects = np.asarray(Image.open(source / "instances" / f"{image.stem}.png"))
    shapes = []
    for number in np.unique(objects)[1:]:
        outlines, _ = cv2.findContours((objects == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        shapes += [
            shape("nucleus", "polygon", one[:, 0].tolist(), group_id=int(number)) for one in outlines if len(one) > 2
        ]
    (tmp_path / "val" / image.name).symlink_to(image)
    (tmp_path / "val" / f"{image.stem}.json").write_text(json.dumps({"shapes": shapes}))
    label = LabelmeSource(tmp_path, "val", LabelmeConfig()).label(image.stem) > 0
    assert shapes and (label != (objects > 0)).mean() < 1e-3
