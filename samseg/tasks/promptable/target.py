"""Objects of an image, and its classes."""

import cv2
import numpy as np
import torch
from torch import Tensor

from samseg.common.errors import InputError
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig
from samseg.data.raster import Window
from samseg.data.sources import Source
from samseg.data.target import ClassTarget, Maps, class_target

MOST_OBJECTS = 2**16 - 2  # of an image: their numbers have 16 bits, and two of them are no object's


class ObjectTarget:
    """``objects``: numbers (H, W) uint16, 0 for none, `IGNORE_INDEX` where ignored; and ``classes``, if there are any.

    Objects are those that the source numbers, or else the connected areas (with diagonal neighbours) of classes. They
    are numbered anew, from 1, and none is `IGNORE_INDEX`.

    Args:
        classes: of the source's labels; None: they have none.
        indices: of the classes whose areas are objects.
    """

    fill = IGNORE_INDEX

    def __init__(self, classes: ClassTarget | None, indices: list[int]):
        self.classes, self.indices = classes, indices
        self.maps = ("objects",) if classes is None else ("objects", "classes")

    def __call__(self, source: Source, name: str, window: Window | None = None) -> Maps:
        classes = None if self.classes is None else self.classes(source, name, window)["classes"]
        objects = source.instances(name, window)
        if objects is None:
            if classes is None:
                raise InputError(
                    f"{source.image_file(name)} has no objects: task: promptable takes them from instances (a folder "
                    "instances/ beside images/, or COCO), or from the areas of classes, which data.classes must name"
                )
            objects = components(classes, self.indices)
        elif classes is not None and classes.shape != objects.shape:
            raise InputError(
                f"the instances of {source.image_file(name)} are {objects.shape[1]} x {objects.shape[0]} pixels, but "
                f"{source.describe_label(name)} is {classes.shape[1]} x {classes.shape[0]}; they must be of one size"
            )
        objects = _numbered(objects, source, name)
        if classes is None:
            return {"objects": objects}
        return {"objects": np.where(classes == IGNORE_INDEX, np.uint16(self.fill), objects), "classes": classes}


def object_target(data: DataConfig, source: Source, names: list[str] | None) -> ObjectTarget:
    """The objects of ``source``, or the areas of the classes called ``names`` (None: all but the first)."""
    classes = list(data.classes)
    indices = range(1, len(classes)) if names is None else [classes.index(name) for name in names]
    return ObjectTarget(class_target(data, source) if classes else None, list(indices))


def known_objects(objects: Tensor) -> tuple[Tensor, Tensor]:
    """Replace ignored pixels by 0, no object; returns the numbers, and where they are not ignored, bool."""
    valid = objects != IGNORE_INDEX
    return torch.where(valid, objects, 0), valid


def components(classes: np.ndarray, indices: list[int]) -> np.ndarray:
    """Class indices (H, W) uint8 -> the connected areas of the chosen classes, numbered from 1, (H, W) int32."""
    objects = np.zeros(classes.shape, np.int32)
    for index in indices:
        count, areas = cv2.connectedComponents((classes == index).astype(np.uint8), connectivity=8)
        objects += np.where(areas > 0, areas + objects.max(), 0)
    return objects


def _numbered(objects: np.ndarray, source: Source, name: str) -> np.ndarray:
    """Any numbers of objects, 0 for none, as 1, 2, 3 ... without `IGNORE_INDEX`, uint16."""
    numbers, inverse = np.unique(objects, return_inverse=True)
    first = 0 if numbers[0] == 0 else 1
    count = len(numbers) + first - 1
    if count > MOST_OBJECTS:
        raise InputError(f"{source.image_file(name)} has {count} objects; at most {MOST_OBJECTS} are possible")
    numbered = inverse.reshape(objects.shape) + first
    return (numbered + (numbered >= IGNORE_INDEX)).astype(np.uint16)
