"""The maps that a task learns, made of a source's raw labels."""

from typing import Protocol

import numpy as np

from samseg.data.classes import IGNORE_INDEX, ClassMap, category_map, parse_categories, parse_classes
from samseg.data.config import DataConfig
from samseg.data.raster import Window
from samseg.data.sources import Source, source_class

Maps = dict[str, np.ndarray]  # (H, W) each


class Target(Protocol):
    """Makes the maps (H, W) of a source's image, or of a window of it, by name; all are resized and cropped alike.

    Their dtypes are those that OpenCV resamples: uint8, uint16, float32 and the like.

    Attributes:
        maps: their names; transforms of ``data.augment`` that look at a mask look at the first.
        fill: the value, in all of them, where nothing is known: padding, nodata, beyond the border.
    """

    maps: tuple[str, ...]
    fill: float

    def __call__(self, source: Source, name: str, window: Window | None = None) -> Maps: ...


class ClassTarget:
    """``classes``: class indices (H, W) uint8, `IGNORE_INDEX` where ignored."""

    maps, fill = ("classes",), IGNORE_INDEX

    def __init__(self, classes: ClassMap):
        self.classes = classes

    def __call__(self, source: Source, name: str, window: Window | None = None) -> Maps:
        label = source.label(name, window, self.classes.colours)
        return {"classes": self.classes(label, source.describe_label(name))}


def class_target(data: DataConfig, source: Source) -> ClassTarget:
    """The classes of ``data`` in the labels of ``source``. Raises ConfigError and InputError."""
    if source.named:
        return ClassTarget(category_map(data.classes, data.ignore, source.categories, source.split))
    return ClassTarget(parse_classes(data.classes, data.ignore))


def check_classes(data: DataConfig) -> None:
    """Check ``data.classes`` and ``data.ignore`` as far as that needs no labels; ConfigError."""
    parse = parse_categories if source_class(data.source).named else parse_classes
    parse(data.classes, data.ignore)
