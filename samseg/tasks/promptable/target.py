"""Objects and classes of an image in one label, so that both are resized, turned and cut alike."""

import cv2
import numpy as np
from torch import Tensor

from samseg.common.errors import InputError
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig
from samseg.data.raster import Window
from samseg.data.sources import Source
from samseg.data.target import ClassTarget, class_target

MOST_OBJECTS = 2**16 - 1  # of an image: number and class together are whole numbers below 2**24, exact in float32
PACK = 256


class ObjectTarget:
    """Labels (H, W) float32 that hold ``PACK * number of the object + index of the class``; see `unpacked`.

    Objects are those that the source numbers, or else the connected areas (with diagonal neighbours) of classes.
    Without ``classes`` every pixel is of class 0. Ignored pixels belong to no object.

    Args:
        classes: of the source's labels; None: they have none.
        indices: of the classes whose areas are objects.
    """

    fill = float(IGNORE_INDEX)

    def __init__(self, classes: ClassTarget | None, indices: list[int]):
        self.classes, self.indices = classes, indices

    def __call__(self, source: Source, name: str, window: Window | None = None) -> np.ndarray:
        classes = None if self.classes is None else self.classes(source, name, window)
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
        packed = PACK * _numbered(objects, source, name).astype(np.float32)
        if classes is not None:
            packed = np.where(classes == IGNORE_INDEX, np.float32(self.fill), packed + classes)
        return packed


def object_target(data: DataConfig, source: Source, names: list[str] | None) -> ObjectTarget:
    """The objects of ``source``, or the areas of the classes called ``names`` (None: all but the first)."""
    classes = list(data.classes)
    indices = range(1, len(classes)) if names is None else [classes.index(name) for name in names]
    return ObjectTarget(class_target(data, source) if classes else None, list(indices))


def unpacked(label: Tensor) -> tuple[Tensor, Tensor]:
    """A batch's labels, or one, -> the numbers of the objects, 0 for none, and the class indices, both int64."""
    whole = label.long()
    return whole // PACK, whole % PACK


def batch_targets(label: Tensor) -> dict[str, Tensor]:
    """What the model is told of a batch's truth: objects' numbers, and where the truth is known."""
    objects, classes = unpacked(label)
    return {"objects": objects, "valid": classes != IGNORE_INDEX}


def components(classes: np.ndarray, indices: list[int]) -> np.ndarray:
    """Class indices (H, W) uint8 -> the connected areas of the chosen classes, numbered from 1, (H, W) int32."""
    objects = np.zeros(classes.shape, np.int32)
    for index in indices:
        count, areas = cv2.connectedComponents((classes == index).astype(np.uint8), connectivity=8)
        objects += np.where(areas > 0, areas + objects.max(), 0)
    return objects


def _numbered(objects: np.ndarray, source: Source, name: str) -> np.ndarray:
    """Any numbers of objects, 0 for none, as 1, 2, 3 ..."""
    numbers, places = np.unique(objects, return_inverse=True)
    if len(numbers) > MOST_OBJECTS:
        raise InputError(f"{source.image_file(name)} has {len(numbers)} objects; at most {MOST_OBJECTS} are possible")
    first = 0 if numbers[0] == 0 else 1
    return places.reshape(objects.shape) + first
