"""Objects in the files of annotation tools: read back by the tools themselves and by samseg's own sources."""

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from samseg.common.errors import InputError
from samseg.data.sources.coco import CocoConfig, CocoSource
from samseg.data.sources.label_studio import LabelStudioConfig, LabelStudioSource
from samseg.data.sources.yolo import YoloConfig, YoloSource
from samseg.inference.objects.annotation_files import TOOLS
from samseg.inference.objects.find import Objects, by_components
from samseg.inference.objects.outlines import outlines
from samseg.inference.predictor import Predictor
from tests.random_run import write_run

NAMES = ["cell", "background", "a & b"]
BACKGROUND = 1


def blobs(seed: int, height: int = 61, width: int = 83) -> np.ndarray:
    """Class areas (H, W) uint8 of random borders, some of one pixel, some at the image's edge, without holes."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)
    classes = cv2.GaussianBlur(noise, (0, 0), 3).argmax(axis=2).astype(np.uint8)
    for label in (0, 2):
        ways, _ = cv2.findContours((classes == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        classes = cv2.drawContours(classes, ways, -1, label, cv2.FILLED)
    return by_label_without_holes(classes)


def by_label_without_holes(classes: np.ndarray) -> np.ndarray:
    """Only the objects (8 neighbours) that have no hole; the others become background."""
    objects = by_components(classes, BACKGROUND)
    kept = np.full_like(classes, BACKGROUND)
    for number, label in enumerate(objects.classes, start=1):
        mask = objects.map == number
        outside, _ = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4)
        if outside == 2:
            kept[mask] = label
    return kept


@pytest.fixture
def scenes(tmp_path) -> dict[Path, Objects]:
    """Photos in a folder of an odd name, and their objects, of which one of the last has two parts and a hole."""
    found = {}
    for seed, name in enumerate(("a.png", "b (1).v2.png", "empty.png", "parts.png")):
        classes = blobs(seed) if name != "empty.png" else np.full((5, 7), BACKGROUND, np.uint8)
        objects = by_components(classes, BACKGROUND)
        if name == "parts.png":
            numbers = np.zeros((30, 40), np.int32)
            numbers[2:12, 3:20] = numbers[20:28, 30:40] = 1
            numbers[5:8, 6:9], numbers[13:19, 0:5] = 0, 2
            objects = Objects(numbers, [2, 0], [1.25, 0.5])
        image = tmp_path / "mine" / "some images" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*objects.map.shape, 3), np.uint8)).save(image)
        found[image] = objects
    return found


def written(tool: str, scenes: dict[Path, Objects], out: Path) -> Path:
    files = TOOLS[tool](out, list(scenes), NAMES, BACKGROUND)
    for image, objects in scenes.items():
        files.add(image, objects)
    files.finish()
    return out


def class_names(objects: Objects) -> np.ndarray:
    """(H, W): each pixel's class by name, "" where there is no object."""
    return np.array(["", *(NAMES[label] for label in objects.classes)])[objects.map]


def filled(objects: Objects) -> Objects:
    """The objects with their holes."""
    numbers = np.zeros(objects.map.shape, np.uint8)
    for number in range(1, len(objects.classes) + 1):
        ways, _ = cv2.findContours((objects.map == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        numbers = cv2.drawContours(numbers, ways, -1, number, cv2.FILLED)
    return Objects(numbers.astype(np.int32), objects.classes, objects.scores)


def check_source(source, scenes: dict[Path, Objects], holes: bool = True) -> None:
    """Its labels are the objects' classes, pixel by pixel."""
    called = np.array(["", *source.categories])
    assert source.wrong == {} and len(source.names) == len(scenes)
    for image, objects in scenes.items():
        name = next(name for name in source.names if name.endswith(image.stem))
        assert np.array_equal(called[source.label(name)], class_names(objects if holes else filled(objects))), name


def test_coco_is_read_by_its_own_library_and_trains(scenes, tmp_path):
    out = written("coco", scenes, tmp_path / "out")
    api = COCO(out / "annotations.json")
    assert [one["name"] for one in api.loadCats(api.getCatIds())] == NAMES
    for image_id, (image, objects) in enumerate(scenes.items(), start=1):
        assert api.imgs[image_id]["file_name"] == image.name
        assert (api.imgs[image_id]["height"], api.imgs[image_id]["width"]) == objects.map.shape
        annotations = api.loadAnns(api.getAnnIds(imgIds=image_id))
        assert [one["score"] for one in annotations] == objects.scores
        assert [one["category_id"] for one in annotations] == [label + 1 for label in objects.classes]
        for number, annotation in enumerate(annotations, start=1):
            area = objects.map == number
            assert np.array_equal(api.annToMask(annotation).astype(bool), area) and annotation["area"] == area.sum()
            rows, columns = np.nonzero(area)
            left, top = columns.min(), rows.min()
            assert annotation["bbox"] == [left, top, columns.max() - left + 1, rows.max() - top + 1]
    assert len(api.loadRes(list(api.anns.values())).anns) == len(api.anns)
    folder = next(iter(scenes)).parent
    check_source(CocoSource(tmp_path, "train", CocoConfig(str(folder), "out/annotations.json")), scenes)


def test_yolo_trains(scenes, tmp_path):
    out = written("yolo", scenes, tmp_path / "out")
    assert (out / "labels" / "empty.txt").read_text() == ""
    parts = (out / "labels" / "parts.txt").read_text().splitlines()
    assert [line.split()[0] for line in parts] == ["1", "1", "0"], "a line a part, numbered without the background"
    settings = YoloConfig(str(next(iter(scenes)).parent), "labels", "data.yaml")
    check_source(YoloSource(out, "train", settings), scenes, holes=False)


def test_yolo_is_read_by_supervision(scenes, tmp_path):
    """It draws the pixels that an outline passes, too: a row below and a column to the right at most."""
    supervision = pytest.importorskip("supervision")
    out = written("yolo", scenes, tmp_path / "out")
    places = str(next(iter(scenes)).parent), str(out / "labels"), str(out / "data.yaml")
    read = supervision.DetectionDataset.from_yolo(*places, force_masks=True)
    assert read.classes == ["cell", "a & b"] and len(read) == len(scenes)
    for path, _, detections in read:
        objects = filled(scenes[Path(path)])
        if Path(path).stem in ("parts", "empty"):
            assert len(detections) == (3 if Path(path).stem == "parts" else 0)
            continue
        assert len(detections) == len(objects.classes)
        left = set(range(1, len(detections) + 1))
        for mask, kind in zip(detections.mask, detections.class_id, strict=True):
            number = next(
                one for one in left if mask[objects.map == one].all() and objects.classes[one - 1] == 2 * kind
            )
            left.remove(number)
            truth = objects.map == number
            assert not (mask & ~cv2.dilate(truth.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)).any()


def test_label_studio_reads_predictions_and_what_is_accepted_trains(scenes, tmp_path):
    out = written("label-studio", scenes, tmp_path / "out")
    tasks = json.loads((out / "tasks.json").read_text())
    assert [task["predictions"][0]["score"] for task in tasks] == [1, 1, 0, 0.75]
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=some%20images/b%20%281%29.v2.png"
    assert [one["score"] for one in tasks[3]["predictions"][0]["result"]] == [1, 0.5]
    image, brush = ElementTree.parse(out / "labeling_config.xml").getroot()
    assert [label.get("value") for label in brush] == ["cell", "a & b"]
    regions = [region for task in tasks for region in task["predictions"][0]["result"]]
    assert {(one["from_name"], one["to_name"]) for one in regions} == {(brush.get("name"), image.get("name"))}
    accepted = [
        {"id": n, "annotations": task["predictions"]} | task for n, task in enumerate(tasks)
    ]  # as a person does
    (out / "export.json").write_text(json.dumps(accepted))
    settings = LabelStudioConfig(str(next(iter(scenes)).parent), "export.json")
    check_source(LabelStudioSource(out, "train", settings), scenes)


def test_label_studios_own_library_finds_nothing_wrong(scenes, tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface", exc_type=ImportError)
    brush = pytest.importorskip("label_studio_sdk.converter.brush", exc_type=ImportError)
    out = written("label-studio", scenes, tmp_path / "out")
    config = interface.LabelInterface((out / "labeling_config.xml").read_text())
    config.validate()
    for task, objects in zip(json.loads((out / "tasks.json").read_text()), scenes.values(), strict=True):
        (prediction,) = task["predictions"]
        assert config.validate_prediction(prediction, return_errors=True) == []
        for number, region in enumerate(prediction["result"], start=1):
            pixels = brush.decode_rle(region["value"]["rle"]).reshape(*objects.map.shape, 4)
            assert np.array_equal(pixels, np.repeat((objects.map == number)[..., None] * np.uint8(255), 4, axis=2))


@pytest.mark.parametrize("mask", [np.eye(4), np.eye(4)[::-1], np.ones((1, 1)), [[1, 0], [1, 1]]])
def test_outlines_pass_each_edge_of_an_object_once(mask):
    """The area that the shoelace formula gives is the number of pixels, also of such as touch in corners alone."""
    padded = np.pad(np.array(mask, bool), ((2, 1), (3, 0)))
    (outline,) = outlines(padded)
    x, y = outline.T
    assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) == 2 * padded.sum()
    steps = np.roll(outline, -1, axis=0) - outline
    assert ((steps == 0).sum(axis=1) == 1).all() and (steps.astype(bool) != np.roll(steps, 1, 0).astype(bool)).all()


@pytest.mark.parametrize(
    "tool, file",
    [
        *(("coco", "annotations.json"), ("yolo", "data.yaml"), ("yolo", "labels/a.txt")),
        *(("label-studio", "tasks.json"), ("label-studio", "labeling_config.xml")),
    ],
)
def test_labels_of_others_are_not_lost_and_ones_own_are_replaced(scenes, tmp_path, tool, file):
    theirs = tmp_path / "theirs" / file
    theirs.parent.mkdir(parents=True)
    theirs.write_text("0 0.1 0.1 0.2 0.2 0.2 0.1")
    with pytest.raises(InputError, match=f"{file} exists, and samseg infer has not written it; name another folder"):
        written(tool, scenes, tmp_path / "theirs")
    assert theirs.read_text() == "0 0.1 0.1 0.2 0.2 0.2 0.1" and list(theirs.parent.iterdir()) == [theirs]
    mine = written(tool, scenes, tmp_path / "mine") / file
    before = mine.read_bytes()
    mine.write_bytes(before[:200])
    assert (written(tool, scenes, tmp_path / "mine") / file).read_bytes() == before


@pytest.mark.parametrize(
    "tool, files",
    [
        *(("coco", {"annotations.json"}), ("yolo", {"data.yaml", "labels"})),
        ("label-studio", {"tasks.json", "labeling_config.xml"}),
    ],
)
def test_the_command_writes_what_a_run_predicts(tmp_path, command, tool, files):
    run = write_run(tmp_path / "run")
    image = tmp_path / "images" / "a.png"
    image.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(image)
    code, said, errors = command("infer", run, image.parent, "--to", tool, "--device", "cpu")
    out = run / "objects" / tool
    objects = by_components(Predictor.from_run(run, "cpu")(image))
    assert code == 0, errors
    assert f"{len(objects.classes)} objects in 1 of 1 images (components), written to {out}" in said
    assert {file.name for file in out.iterdir()} == files
    if tool == "coco":
        assert len(COCO(out / "annotations.json").anns) == len(objects.classes) > 1


def test_two_images_of_one_name_cannot_be_told_apart(tmp_path, command):
    run = write_run(tmp_path / "run")
    for name in ("a/one.png", "b/one.tif"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    code, _, errors = command("infer", run, tmp_path / "a", tmp_path / "b", "--to", "coco", "--out", tmp_path / "out")
    assert code == 2 and "a/one.png and" in errors and "could not be told apart" in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
