"""Check a data set's objects before the first step."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from samseg.common.errors import InputError
from samseg.data.check import DataProblems, Problem, Report, check_dataset, look_at_all
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig
from samseg.data.preprocess import Preprocessing
from samseg.data.sources import Source
from samseg.models.sam.simulate import large_enough
from samseg.tasks.promptable.target import ObjectTarget, known_objects, object_target


@dataclass
class ObjectReport:
    """What a data set holds; ``print(report)`` shows the classes, if there are, and how many objects in each split.

    Attributes:
        classes: of the masks; None without classes.
        objects: in each image of each split, those large enough to be learnt.
        contents: "SPLIT/NAME" -> a digest of the image, its objects and classes.
        warnings: of the objects; those of the classes are among theirs.
    """

    classes: Report | None
    objects: dict[str, list[int]]
    contents: dict[str, str]
    warnings: list[str]

    def images(self, split: str) -> int:
        return len(self.objects[split])

    def __str__(self) -> str:
        lines = [] if self.classes is None else [str(self.classes)]
        for split, counts in self.objects.items():
            if not counts:
                lines.append(f"{split}: no image that can be used")
                continue
            empty = sum(count == 0 for count in counts)
            skipped = f"; {empty} of them without objects, which are skipped" if empty else ""
            if empty == len(counts):
                skipped = ": without an object there is nothing to score"
            lines.append(
                f"{split}: {sum(counts)} objects in {len(counts)} images, {np.mean(counts):.1f} an image, at most "
                f"{max(counts)}{skipped}"
            )
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def check_objects(data: DataConfig, splits: Iterable[str], class_names: list[str] | None, least: int) -> ObjectReport:
    """Read every image and label of ``splits`` and count objects of at least ``least`` pixels at the network's size.

    DataProblems for what cannot be used, and where train holds no object at all.
    """
    splits = list(splits)
    classes = check_dataset(data, splits) if data.classes else None
    targets: dict[str, ObjectTarget] = {}

    notes: list[str] = []

    def prepare(source: Source) -> None:
        notes.extend(source.notes)
        targets[source.split] = object_target(data, source, class_names)

    contents: dict[str, str] = {}

    def look(source: Source, name: str) -> int:
        maps = targets[source.split](source, name)
        contents[f"{source.split}/{name}"] = _digest(source.digest(name), **maps)
        return countable(maps["objects"], data.preprocessing, least, source, name)

    found, problems, remarks = look_at_all(data, splits, prepare, look)
    report = ObjectReport(classes, found, contents, notes + remarks if classes is None else [])
    if not problems and not any(report.objects.get("train", [1])):
        error = InputError(
            f"{data.root}/train: none of its {report.images('train')} images holds an object of {least} pixels or more "
            f"at data.image_size={data.preprocessing.size}; see data.classes, prompts.classes and prompts.min_pixels"
        )
        problems.append(Problem("train", None, error))
    if problems:
        raise DataProblems(problems, report)
    return report


def _digest(image: str, objects: np.ndarray, classes: np.ndarray | int = 0) -> str:
    """Digest of an image and its truth, computed from one packed map as by earlier versions, whose runs go on."""
    numbers = objects.astype(np.float32) - (objects > IGNORE_INDEX)
    label = np.where(objects == IGNORE_INDEX, np.float32(IGNORE_INDEX), 256 * numbers + classes)
    return hashlib.sha256(image.encode() + label.tobytes()).hexdigest()[:32]


def countable(objects: np.ndarray, preprocessing: Preprocessing, least: int, source: Source, name: str) -> int:
    """How many of the objects (H, W) have at least ``least`` pixels at the network's size."""
    shape = source.shape(name)
    if objects.shape != tuple(shape):
        raise InputError(
            f"the objects of {source.image_file(name)} are {objects.shape[1]} x {objects.shape[0]} pixels, but the "
            f"image is {shape[1]} x {shape[0]}; they must be of one size"
        )
    resized = torch.from_numpy(preprocessing.map_input(objects, 0, fit=True)).long()
    return len(large_enough(known_objects(resized)[0], least))
