"""A source of arrays in memory, and what a data set makes of one image."""

from pathlib import Path

import numpy as np

from samseg.data.config import DataConfig
from samseg.data.dataset import SegmentationDataset
from samseg.data.raster import Raster, as_raster, crop
from samseg.data.sources import Source
from samseg.data.target import Target


class ArraySource(Source):
    """Images (H, W, C), or rasters, and labels (H, W) by name."""

    def __init__(self, items: dict[str, tuple[np.ndarray | Raster, np.ndarray]], split: str = "train"):
        super().__init__("", split)
        self.items, self.names = {name: (as_raster(image), label) for name, (image, label) in items.items()}, [*items]

    @classmethod
    def images(cls, root, split, settings=None) -> list[Path]:
        return []

    def shape(self, name: str) -> tuple[int, int]:
        return self.items[name][0].pixels.shape[1:]

    def image(self, name, window=None) -> Raster:
        return self.items[name][0].crop(window)

    def label(self, name, window=None, colours=False) -> np.ndarray:
        return crop(self.items[name][1], window)

    def digest(self, name: str) -> str:
        return name

    def image_file(self, name: str) -> Path:
        return Path(f"{name}.array")

    def describe_label(self, name: str) -> str:
        return f"{name}.label"


class RawTarget:
    """The label as it is, as ``mask``."""

    maps = ("mask",)

    def __init__(self, fill: float = 255):
        self.fill = fill

    def __call__(self, source, name, window=None) -> dict[str, np.ndarray]:
        return {"mask": source.label(name, window)}


def training_item(
    config: DataConfig, image: np.ndarray | Raster, label: np.ndarray, seed: int = 0, target: Target | None = None
) -> dict:
    """What training makes of one image, with all that is drawn from ``seed``."""
    source = ArraySource({"a": (image, label)})
    return SegmentationDataset(
        source, target or RawTarget(), config.preprocessing, train=True, seed=seed, augment=config.augment
    )[0]
