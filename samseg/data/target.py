"""What a task learns of each pixel: from a source's raw label to what the loss is given."""

from typing import Protocol

import numpy as np

from samseg.data.categories import category_map, parse_categories
from samseg.data.classes import IGNORE_INDEX, ClassMap, parse_classes
from samseg.data.config import DataConfig
from samseg.data.raster import Window
from samseg.data.sources import Source, source_class


class Target(Protocol):
    """Gives (H, W) for an image of a source, or for a window of it, in one integer or floating-point dtype.

    Attributes:
        fill: the value of pixels that count neither in loss nor in metrics: padding, nodata, beyond the border.
    """

    fill: float

    def __call__(self, source: Source, name: str, window: Window | None = None) -> np.ndarray: ...


class ClassTarget:
    """Class indices (H, W) uint8, `IGNORE_INDEX` where ignored."""

    fill = IGNORE_INDEX

    def __init__(self, classes: ClassMap):
        self.classes = classes

    def __call__(self, source: Source, name: str, window: Window | None = None) -> np.ndarray:
        label = source.label(name, window, self.classes.colours)
        return self.classes(label, source.describe_label(name))


def class_target(data: DataConfig, source: Source) -> ClassTarget:
    """The classes of ``data`` in the labels of ``source``. Raises ConfigError and InputError."""
    if source.named:
        return ClassTarget(category_map(data.classes, data.ignore, source.categories, source.split))
    return ClassTarget(parse_classes(data.classes, data.ignore))


def check_classes(data: DataConfig) -> None:
    """What of ``data.classes`` and ``data.ignore`` can be told without the labels; ConfigError."""
    parse = parse_categories if source_class(data.source).named else parse_classes
    parse(data.classes, data.ignore)
