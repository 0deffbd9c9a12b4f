"""YOLO's polygons, as Ultralytics, Roboflow and CVAT write them: a text file of shapes for each image."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from samseg.common.errors import InputError, first_line
from samseg.data.formats.images import image_shape
from samseg.data.sources.coco import CocoSource
from samseg.data.sources.files import counted
from samseg.data.sources.places import list_images, normal, place
from samseg.data.sources.source import Layout

PLACES = (  # of images and text files
    *(("{split}/images", "{split}/labels"), ("images/{split}", "labels/{split}"), ("images", "labels")),
    *(("{split}", "{split}"), ("", "")),
)
NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "labels/classes.txt", "obj.names")
LINE = re.compile(rb"\d+(\s+-?[\d.]+(e-?\d+)?){4,}\s*$", re.MULTILINE)
SLACK = 0.01  # that Ultralytics, too, allows coordinates beyond the image


@dataclass
class YoloConfig:
    """Where a split's files lie under data.root; {split} stands for train, val or test."""

    images: str = "{split}/images"  # the folder of the images
    annotations: str = "{split}/labels"  # the folder of the text files, each called as its image
    names: str | None = "data.yaml"  # names the classes; or a text file with a name a line; null: their numbers do


class YoloSource(CocoSource):
    """The images of a split, and the polygons in the text file of the same stem: class x1 y1 x2 y2 ... a line.

    Coordinates are shares of the image's width and height. Images without a text file are background. Objects are drawn
    as COCO's: the smaller lies on top. Boxes are no segmentation, and an error.
    """

    section, split_keys = "yolo", ("images",)

    def __init__(self, root: str | Path, split: str, settings: YoloConfig):
        self._names = {} if settings.names is None else _names(Path(root) / settings.names)
        super().__init__(root, split, settings)

    @classmethod
    def recognise(cls, root: Path) -> Layout | None:
        for images, labels in PLACES:
            folders = place(root, images, "train"), place(root, labels, "train")
            if all(folder.is_dir() for folder in folders) and _hold_polygons(*folders):
                names = next((name for name in NAMES if (root / name).is_file()), None)
                splits = "{split}" in images and place(root, images, "val").is_dir()
                what = f"YOLO's text files in {labels or root}/" + ("" if names is None else f", classes in {names}")
                return Layout(YoloConfig(images, labels, names), what, splits)
        return None

    def describe_label(self, name: str) -> str:
        return str(self._annotations / f"{self.files[name].stem}.txt")

    def _content(self, images: list[Path]) -> dict[str, Any]:
        if not self._annotations.is_dir():
            raise InputError(
                f"no such folder: {self._annotations}; data.yolo.annotations says where the text files lie"
            )
        listed, annotations = [], []
        texts = {normal(file.stem): file for file in self._annotations.glob("*.txt")}
        for image in images:
            stem = normal(image.stem)
            try:
                height, width = image_shape(image)
                file = texts.pop(stem, None)
                annotations += [] if file is None else self._polygons(file, stem, width, height)
                listed.append({"id": stem, "file_name": image.name, "height": height, "width": width})
            except InputError as error:
                self.wrong[stem] = error
        orphans = [file.name for file in texts.values() if LINE.match(file.read_bytes())]
        if orphans:
            self.notes.append(f"{self.split}: {counted(sorted(orphans), 'text file')} without an image: left out")
        numbers = sorted({one["category_id"] for one in annotations} | self._names.keys())
        categories = [{"id": number, "name": self._names.get(number, str(number))} for number in numbers]
        return {"images": listed, "annotations": annotations, "categories": categories}

    def _polygons(self, file: Path, stem: str, width: int, height: int) -> list[dict[str, Any]]:
        """A file's shapes as COCO's annotations, whose ids are the lines; InputError for a line that is no polygon."""
        found = []
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
            where = f"{file}: line {number}"
            try:
                values = [float(part) for part in line.split()]
            except ValueError:
                raise InputError(f"{where} holds {line[:40]!r}; a polygon is a class and x, y of its points") from None
            if not values:
                continue
            if len(values) == 5:
                raise InputError(f"{where} is a box (class x y width height); segmentation needs polygons or masks")
            if len(values) < 7 or len(values) % 2 == 0 or not values[0].is_integer():
                raise InputError(f"{where} holds {len(values)} numbers; a polygon is a class and 3 points or more")
            if not all(-SLACK <= value <= 1 + SLACK for value in values[1:]):  # nor NaN
                raise InputError(f"{where}: its points are not from 0 to 1, shares of the image's width and height")
            if self._names and values[0] not in self._names:
                raise InputError(f"{where} is of class {values[0]:g}, which has no name: there are {self._names}")
            points = (np.reshape(values[1:], (-1, 2)) * (width, height)).ravel().tolist()
            found.append({"id": number, "image_id": stem, "category_id": int(values[0]), "segmentation": [points]})
        return found


def _hold_polygons(images: Path, labels: Path) -> bool:
    """Whether the text file of an image begins as a shape."""
    texts = (labels / f"{image.stem}.txt" for image in list_images(images))
    first = next((file for file in texts if file.is_file() and file.stat().st_size), None)
    return first is not None and LINE.match(first.read_bytes()) is not None


def _names(file: Path) -> dict[int, str]:
    """Classes' names by their numbers, of YAML (a list or a mapping under ``names``) or of lines; InputError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix not in (".yaml", ".yml"):
            return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
        names = yaml.safe_load(text)["names"]
        numbered = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(number): str(name) for number, name in numbered}
    except FileNotFoundError:
        raise InputError(f"no such file: {file}; data.yolo.names says which file names the classes, or null") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} has no names of classes under the key names: {first_line(error)}") from error
