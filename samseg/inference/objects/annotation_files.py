"""Objects as the files in which annotation tools keep them: COCO's JSON (which CVAT reads), YOLO's, Label Studio's."""

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import yaml
from pycocotools import mask as rle

from samseg.common.errors import InputError
from samseg.common.files import write_bytes
from samseg.inference.objects import label_studio
from samseg.inference.objects.find import Objects
from samseg.inference.objects.outlines import outlines

MADE_BY = "samseg infer"  # stands at the beginning of what is written: anything else may be somebody's own labels
BEGINNING = 100  # bytes


class AnnotationFiles:
    """The objects of images, in files of one tool.

    Args:
        out: the folder to write into.
        images: all that will be added.
        names: of all classes.
        background: the class of which there are no objects.

    Raises:
        InputError: what is in ``out`` would be lost, and no earlier call has written it.
    """

    def __init__(self, out: Path, images: list[Path], names: list[str], background: int):
        raise NotImplementedError

    def add(self, image: Path, objects: Objects) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write what holds all images, if something does."""


class CocoFile(AnnotationFiles):
    """``annotations.json``: masks as RLE, boxes (x, y, width, height), areas and scores; ids count from 1."""

    def __init__(self, out: Path, images: list[Path], names: list[str], background: int):
        self._file = out / "annotations.json"
        _check_ours(self._file)
        self.content = {
            "info": {"description": MADE_BY},
            "images": [],
            "annotations": [],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        }

    def add(self, image: Path, objects: Objects) -> None:
        image_id = len(self.content["images"]) + 1
        height, width = objects.map.shape
        self.content["images"].append({"id": image_id, "file_name": image.name, "height": height, "width": width})
        for number, (label, score) in enumerate(zip(objects.classes, objects.scores, strict=True), start=1):
            encoded = rle.encode(np.asfortranarray(objects.map == number).astype(np.uint8))
            self.content["annotations"].append(
                {
                    "id": len(self.content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "iscrowd": 0,
                    "score": score,
                    "area": int(rle.area(encoded)),
                    "bbox": [float(value) for value in rle.toBbox(encoded)],
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode()},
                }
            )

    def finish(self) -> None:
        write_bytes(self._file, json.dumps(self.content).encode())


class YoloFolder(AnnotationFiles):
    """``data.yaml`` and ``labels/STEM.txt``: ``class x1 y1 x2 y2 ...``, a line for each part of an object.

    Outlines go along the edges of pixels, in shares of the image's sides. There is no place for scores and holes.
    """

    def __init__(self, out: Path, images: list[Path], names: list[str], background: int):
        self._labels = out / "labels"
        _check_ours(out / "data.yaml", (self._labels / f"{image.stem}.txt" for image in images))
        kinds = [label for label in range(len(names)) if label != background]
        self._numbers = {label: number for number, label in enumerate(kinds)}
        called = {number: names[label] for label, number in self._numbers.items()}
        text = yaml.safe_dump({"names": called, "nc": len(called)}, allow_unicode=True)
        write_bytes(out / "data.yaml", f"# {MADE_BY}\n{text}".encode())

    def add(self, image: Path, objects: Objects) -> None:
        lines = []
        height, width = objects.map.shape
        for number, label in enumerate(objects.classes, start=1):
            for outline in outlines(objects.map == number):
                points = (outline / (width, height)).ravel()
                lines.append(" ".join([str(self._numbers[label]), *(f"{value:.9g}" for value in points)]) + "\n")
        write_bytes(self._labels / f"{image.stem}.txt", "".join(lines).encode())


class LabelStudioFile(AnnotationFiles):
    """``tasks.json``: tasks with predictions of brush strokes, and ``labeling_config.xml``, the interface for them.

    An image is called by its folder and name, as Label Studio serves local files below the folder that holds both.
    """

    def __init__(self, out: Path, images: list[Path], names: list[str], background: int):
        self._file = out / "tasks.json"
        _check_ours(self._file, [out / "labeling_config.xml"])
        self._names, self._background = names, background
        self._tasks: list[dict] = []

    def add(self, image: Path, objects: Objects) -> None:
        where = quote(f"{image.resolve().parent.name}/{image.name}")
        self._tasks.append(
            {
                "predictions": [label_studio.prediction(objects, self._names, MADE_BY)],
                "data": {"image": f"/data/local-files/?d={where}"},
            }
        )

    def finish(self) -> None:
        write_bytes(self._file, json.dumps(self._tasks).encode())
        interface = label_studio.interface_xml(self._names, self._background)
        write_bytes(self._file.with_name("labeling_config.xml"), interface.encode())


TOOLS: dict[str, type[AnnotationFiles]] = {"coco": CocoFile, "yolo": YoloFolder, "label-studio": LabelStudioFile}


def _check_ours(file: Path, others: Iterable[Path] = ()) -> None:
    """InputError where ``file`` or ``others`` are there, unless ``file`` says that an earlier call wrote it."""
    there = [one for one in (file, *others) if one.exists()]
    if file in there:
        with open(file, "rb") as content:
            if MADE_BY.encode() in content.read(BEGINNING):
                return
    if there:
        raise InputError(f"{there[0]} exists, and samseg infer has not written it; name another folder with --out")
