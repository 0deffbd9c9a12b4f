"""The objects that a run finds in photos, compared with those that the labels tell apart."""

from pathlib import Path
from typing import Any

import numpy as np

from samseg.data.classes import IGNORE_INDEX
from samseg.data.sources import Source
from samseg.inference.objects.files import ObjectFinder
from samseg.tasks.matching import Matches, match, not_told_apart


class PhotoScores:
    """Counts the objects that ``finder`` finds in the images of a split, image by image and class by class.

    A true object is of the class that its pixels have; where the run predicts no classes there is one, object. Pixels
    that are ignored or hold no data belong to no object.

    Raises:
        InputError: the labels tell no objects apart.
    """

    def __init__(self, finder: ObjectFinder, source: Source):
        if source.instances(source.names[0]) is None:
            raise not_told_apart(
                f"{source.image_file(source.names[0])} has none: they come from instances/ beside images/, COCO or "
                "labelme"
            )
        self._finder, self._source = finder, source
        names = dict(enumerate(finder.names)) if finder.dense else {1: "object"}
        self._counts = {index: Matches() for index in names if not finder.dense or index != finder.background}
        self._names = names

    def count(self, item: dict, classes: np.ndarray | None) -> None:
        """One image: an evaluation item, and its predicted classes (H, W) uint8 where the run predicts them."""
        name = item["name"]
        objects, found = self._source.instances(name), self._finder.find(item["image"], classes)
        truth = item["classes" if "classes" in item else "objects"].numpy()
        known = truth != IGNORE_INDEX
        if not self._finder.dense:
            truth = np.ones_like(truth)
        labels = np.array([IGNORE_INDEX, *found.classes])[found.map]
        for index in self._counts:
            mine, there = ((kinds == index) & known for kinds in (labels, truth))
            self._counts[index] += match(np.where(mine, found.map, 0), np.where(there, objects, 0))

    def compute(self) -> dict[str, Any]:
        """The way, and `Matches.figures` by class."""
        classes = {self._names[index]: matches.figures() for index, matches in self._counts.items()}
        return {"way": self._finder.way, "classes": classes}

    def write(self, path: Path) -> bool:
        """False: nothing is written, for a photo has no place on Earth to draw its objects in."""
        return False
