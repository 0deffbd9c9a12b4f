"""Label Studio's JSON: which annotation of a task counts, what its regions cover, and what is said of bad ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from samseg.common.errors import InputError
from samseg.data.sources.label_studio import LabelStudioConfig, LabelStudioSource
from tests.data import exports
from tests.data.exports import HEIGHT, WIDTH
from tests.data.exports import label_studio_region as region
from tests.data.sources.contract import SourceContract

BOX = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0}


def write(root: Path, *tasks: list[dict], **changes) -> LabelStudioSource:
    """A task an image, a.png, b.png ..., of these annotations."""
    content = []
    for name, annotations in zip("abc", tasks, strict=False):
        exports.photo(root / "train" / "images" / f"{name}.png")
        content.append({"id": ord(name), "data": {"image": f"/data/upload/7/1f2e3d4c-{name}.png"}} | changes)
        content[-1]["annotations"] = annotations
    exports.write(root / "train" / "annotations.json", json.dumps(content))
    return LabelStudioSource(root, "train", LabelStudioConfig())


def annotated(*regions: dict, **settings) -> dict:
    return {"id": 1, "was_cancelled": False, "ground_truth": False, "result": list(regions)} | settings


class TestLabelStudio(SourceContract):
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        exports.label_studio_json(tmp_path / "train")
        next((tmp_path / "train").glob("*.json")).rename(tmp_path / "train" / "annotations.json")
        return tmp_path

    @pytest.fixture
    def source(self, root) -> LabelStudioSource:
        return LabelStudioSource(root, "train", LabelStudioConfig())


def test_the_ground_truth_counts_or_else_the_latest_annotation_that_was_not_skipped(tmp_path):
    cell, plate = region(1, "rectanglelabels", "cell", BOX), region(1, "rectanglelabels", "plate", BOX)
    early, late = {"updated_at": "2026-01-02T03:04:05Z"}, {"updated_at": "2026-02-01T00:00:00Z"}
    source = write(
        tmp_path,
        [annotated(plate, **late), annotated(cell, **early), annotated(was_cancelled=True, updated_at="2027")],
        [annotated(cell, ground_truth=True, **early), annotated(plate, **late)],
        [annotated(cell, was_cancelled=True)],
    )
    called = [None, *source.categories]
    assert source.names == ["a", "b"] and [called[source.label(name).max()] for name in "ab"] == ["plate", "cell"]
    assert source.notes[0] == "train: 1 task (1f2e3d4c-c) without annotations: left out"


def test_ellipses_and_turned_rectangles(tmp_path):
    """Against formulas at the pixels' middles: the angle is clockwise, about the middle or the upper left corner."""
    turned = {"x": 50, "y": 12.5, "width": 100 / 3, "height": 25, "rotation": 30}
    oval = {"x": 50, "y": 50, "radiusX": 30, "radiusY": 20, "rotation": 60}
    source = write(
        tmp_path,
        [annotated(region(1, "rectanglelabels", "cell", turned))],
        [annotated(region(1, "ellipselabels", "cell", oval))],
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5

    def along(left: float, top: float, degrees: float) -> tuple[np.ndarray, np.ndarray]:
        angle = np.radians(degrees)
        right, down = x - left, y - top
        return right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)

    u, v = along(24, 4, 30)
    rectangle = (u > 0) & (u < 16) & (v > 0) & (v < 8)
    u, v = along(24, 16, 60)
    ellipse = (u / (0.3 * WIDTH)) ** 2 + (v / (0.2 * HEIGHT)) ** 2 < 1
    for name, expected in (("a", rectangle), ("b", ellipse)):
        differs = (source.label(name) > 0) != expected
        assert expected.sum() > 100 and differs.mean() < 0.01, name


def test_labels_in_an_entry_of_their_own_and_keypoints(tmp_path):
    """As <Labels> beside <Rectangle> gives them."""
    shape = region(1, "rectangle", "cell", BOX)
    del shape["value"]["rectangle"]
    point = region(2, "keypointlabels", "tip", {"x": 1, "y": 2, "width": 0.4})
    source = write(tmp_path, [annotated(shape, region(1, "labels", "cell", BOX), point)], [annotated()])
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[8:24, 12:36] = True
    assert np.array_equal(source.label("a") > 0, expected) and source.categories == {"cell": 1}
    assert "train: 1 keypoint (1f2e3d4c-a) and the like, which cover no area: left out" in source.notes
    assert not source.label("b").any()


@pytest.mark.parametrize(
    "address",
    [
        *("/data/local-files/?d=sub%2Fa.png", "s3://bucket/some/a.png", "https://host/data/upload/1/1f2e3d4c-a.png"),
        *("a.png", r"C:\images\a.png", "/data/upload/1/%61.png"),
    ],
)
def test_images_are_found_wherever_they_were(tmp_path, address):
    source = write(tmp_path, [annotated()], data={"text": "seen", "image": address})
    assert source.names == ["a"] and source.image_file("a").name == "a.png"


POLYGON = {"points": [[0, 0], [50, 0], [50, 50]], "closed": True}


@pytest.mark.parametrize(
    "bad, message",
    [
        (region(1, "rectanglelabels", "cell", BOX) | {"image_rotation": 90}, "was turned in Label Studio"),
        (
            region(1, "polygon", "cell", POLYGON) | {"value": POLYGON},
            "region r1 has no label; give it one or remove it",
        ),
        (region(1, "brushlabels", "cell", {"rle": [0, 0, 0, 1]}), "region r1 cannot be read .the encoding is of 1 num"),
        (region(1, "brushlabels", "cell", {"rle": "abc"}), "region r1 cannot be read"),
        (region(1, "polygonlabels", "cell", {"points": [["x", 0]]}), "region r1 cannot be read"),
        (region(1, "rectanglelabels", "cell", BOX | {"x": None}), "region r1 cannot be read"),
        ({"id": "r1", "type": "polygonlabels", "value": POLYGON}, "region r1 cannot be read .'original_width'"),
    ],
)
def test_a_region_that_cannot_be_drawn_is_told_and_the_others_stay(tmp_path, bad, message):
    source = write(tmp_path, [annotated(bad)], [annotated(region(1, "rectanglelabels", "cell", BOX))])
    assert source.names == ["b"] and list(source.wrong) == ["1f2e3d4c-a"]
    with pytest.raises(InputError, match=r"annotations.json: task 97 \(data/upload/7/1f2e3d4c-a.png\).*" + message):
        raise source.wrong["1f2e3d4c-a"]


def test_another_size_than_the_images_is_told(tmp_path):
    other = region(1, "rectanglelabels", "cell", BOX) | {"original_width": 2 * WIDTH}
    source = write(tmp_path, [annotated(other)])
    assert source.label("a").shape == (HEIGHT, 2 * WIDTH)  # which the check compares with the image's


@pytest.mark.parametrize("content", ["{}", '[{"image": "a.png", "label": []}]', '[{"data": {}, "annotations": {}}]'])
def test_what_is_no_export(tmp_path, content):
    write(tmp_path, [annotated()])
    (tmp_path / "train" / "annotations.json").write_text(content)
    with pytest.raises(
        InputError, match="is no list of tasks with data and annotations; export from Label Studio as JSON"
    ):
        LabelStudioSource(tmp_path, "train", LabelStudioConfig())
    with pytest.raises(InputError, match="no such file: .*x.json; data.label_studio.annotations"):
        LabelStudioSource(tmp_path, "train", LabelStudioConfig(annotations="x.json"))
