"""Label Studio: its own JSON export, of brush strokes, polygons, rectangles and ellipses, beside a folder of images."""

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from samseg.common.errors import InputError
from samseg.data.formats import brush_rle
from samseg.data.formats.coco_rle import mask_rle
from samseg.data.sources.coco import CocoSource
from samseg.data.sources.files import counted, read_json
from samseg.data.sources.places import annotated_layout, annotation_files
from samseg.data.sources.source import Layout

OF_MIN = {"annotation_id", "annotator"}  # keys of an entry of JSON-MIN
SIDES = ("original_width", "original_height")  # keys of a region: of its image, in pixels
CORNERS = 72  # of the polygon that stands for an ellipse


@dataclass
class LabelStudioConfig:
    """Where a split's files lie under data.root; {split} stands for train, val or test.

    Label Studio knows no splits: data.split draws them, of annotations such as project-1-at-2026-01-02-03-04.json.
    """

    images: str = "{split}/images"  # the folder of the images, called as Label Studio or as their owner calls them
    annotations: str = "{split}/annotations.json"  # what it exports as JSON


class LabelStudioSource(CocoSource):
    """The images of the tasks that are annotated, with the ground truth or else the latest annotation of each.

    Skipped annotations and predictions are left out. Objects are drawn as COCO's: the smaller lies on top.
    """

    section = "label_studio"

    @classmethod
    def recognise(cls, root: Path) -> Layout | None:
        found = annotation_files(root, _begins_as_tasks)
        return annotated_layout(root, found, LabelStudioConfig, "Label Studio's JSON")

    def _content(self, images: list[Path]) -> dict[str, Any]:
        tasks = _read(self._annotations)
        listed, annotations, points, unlabelled = [], [], [], []
        for task in tasks:
            name = _file_name(task)
            stem, where = PurePosixPath(name).stem, f"{self._annotations}: task {task.get('id')} ({name})"
            result = _chosen(task)
            if result is None:
                unlabelled.append(stem)
                continue
            try:
                regions, without_area = _regions(result, where)
            except InputError as error:
                self.wrong[stem] = error
                continue
            points += [stem] * without_area
            key = len(listed)
            sized = next((one for one in result if one.keys() >= set(SIDES)), {})
            sides = {side: sized.get(f"original_{side}") for side in ("width", "height")}
            listed.append({"id": key, "file_name": name} | sides)
            annotations += [region | {"image_id": key} for region in regions]
        if unlabelled:
            self.notes.append(f"{self.split}: {counted(unlabelled, 'task')} without annotations: left out")
        if points:
            self.notes.append(
                f"{self.split}: {counted(points, 'keypoint')} and the like, which cover no area: left out"
            )
        labels = sorted({region["category_id"] for region in annotations})
        categories = [{"id": label, "name": label} for label in labels]
        return {"images": listed, "annotations": annotations, "categories": categories}


def _begins_as_tasks(start: bytes) -> bool:
    if not start.startswith(b"["):
        return False
    whole = b'"data"' in start and (b'"annotations"' in start or b'"result"' in start)
    return whole or any(f'"{key}"'.encode() in start for key in (*OF_MIN, "original_width", "rle"))


def _read(file: Path) -> list[dict[str, Any]]:
    tasks = read_json(file, f"no such file: {file}; data.label_studio.annotations says where the export lies")
    if isinstance(tasks, list) and all(isinstance(task, dict) and task.keys() & OF_MIN for task in tasks):
        tasks = _tasks_of_min(tasks)
    sound = isinstance(tasks, list) and all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list)
        for task in tasks
    )
    if not sound:
        raise InputError(f"{file} is no list of tasks with data and annotations; export from Label Studio as JSON")
    return tasks


def _tasks_of_min(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks of an export as JSON-MIN: an entry an annotation, its regions under the names of their tags."""
    tasks: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        task = tasks.setdefault(
            entry.get("id", f"entry {number}"), {"id": entry.get("id"), "data": entry, "annotations": []}
        )
        lists = [value for value in entry.values() if isinstance(value, list)]
        values = [one for each in lists for one in each if isinstance(one, dict) and "original_width" in one]
        result = [{"value": one} | {key: one[key] for key in SIDES if key in one} for one in values]
        task["annotations"].append({"updated_at": entry.get("updated_at"), "result": result})
    return list(tasks.values())


def _file_name(task: dict[str, Any]) -> str:
    """The path of the image in a task's data, of /data/upload/1/a.png, /data/local-files/?d=a.png, s3://bucket/a.png."""
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    name = task["data"].get("image", texts[0] if texts else "")
    return unquote(str(name).rpartition("?d=")[2]).lstrip("/")


def _chosen(task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The regions of the annotation that counts; None where there is none."""
    done = [one for one in task["annotations"] if isinstance(one, dict) and not one.get("was_cancelled")]
    if not done:
        return None
    best = max(done, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at") or "")))
    return [one for one in best.get("result") or [] if isinstance(one, dict) and isinstance(one.get("value"), dict)]


def _regions(result: list[dict[str, Any]], where: str) -> tuple[list[dict[str, Any]], int]:
    """COCO's annotations but for their image, and how many regions cover no area; InputError for a damaged region."""
    values: dict[Any, dict[str, Any]] = {}  # what is said of a region may stand in several entries of its id
    for number, one in enumerate(result):
        if one.get("image_rotation"):
            raise InputError(f"{where} was turned in Label Studio, which is not read; turn the image itself")
        sides = {key: one[key] for key in SIDES if key in one}
        values.setdefault(one.get("id", number), {}).update(one["value"] | sides)
    regions, without_area = [], 0
    for key, value in values.items():
        if not value.keys() & {"rle", "points", "x"}:
            continue  # of the image as a whole
        try:
            outline = region_outline(value)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{where}: region {key} cannot be read ({error}); draw it anew or remove it") from error
        label = next((labels for name, labels in value.items() if name.endswith("labels") and labels), None)
        if outline is None:
            without_area += 1
        elif not isinstance(label, list) or not isinstance(label[0], str):
            raise InputError(f"{where}: region {key} has no label; give it one or remove it")
        else:
            regions.append({"id": key, "category_id": label[0], "segmentation": outline})
    return regions, without_area


def region_outline(value: dict[str, Any]) -> Any:
    """A region as COCO's polygons or RLE; None for keypoints and the like. Coordinates are per cent of the sides."""
    width, height = value["original_width"], value["original_height"]
    if "rle" in value:  # of the pixels' four channels, of which the last says what was painted
        painted = brush_rle.decode(value["rle"], 4 * width * height).reshape(height, width, 4)[..., 3] > 0
        return mask_rle(painted)
    scale = np.array([width, height]) / 100
    if "points" in value:
        return [(np.array(value["points"], dtype=np.float64) * scale).ravel().tolist()]
    corner = np.array([value["x"], value["y"]]) * scale
    if "radiusX" in value:
        angles = np.linspace(0, 2 * math.pi, CORNERS, endpoint=False)
        offsets = np.stack([value["radiusX"] * np.cos(angles), value["radiusY"] * np.sin(angles)], axis=1) * scale
    elif "height" in value:
        offsets = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * np.array([value["width"], value["height"]]) * scale
    else:
        return None
    turn = math.radians(value.get("rotation") or 0)  # clockwise, about the corner of a rectangle
    turned = offsets @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return [(corner + turned).ravel().tolist()]
