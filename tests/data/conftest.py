"""A small data set in a folder, made anew for each test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samseg.data.config import DataConfig, complete_data, open_source
from samseg.data.dataset import SegmentationDataset
from samseg.data.target import class_target


def write_pair(folder: Path, name: str, image: np.ndarray, mask: np.ndarray, suffix: str = ".png") -> None:
    for kind, array in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / kind / (name + suffix))


def dataset_of(data: DataConfig, split: str, **settings) -> SegmentationDataset:
    source = open_source(data, split)
    return SegmentationDataset(
        source, class_target(data, source), data.preprocessing, views=data.views, augment=data.augment, **settings
    )


@pytest.fixture
def data(tmp_path) -> DataConfig:
    """train: 3 pairs, val: 2, test: 1; sizes differ; mask values 0, 7 (classes) and 9 (ignored)."""
    rng = np.random.default_rng(0)
    for split, sizes in {
        "train": [(40, 64), (64, 64), (30, 20)],
        "val": [(40, 50), (70, 20)],
        "test": [(9, 9)],
    }.items():
        for number, size in enumerate(sizes):
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            mask = rng.choice(np.array([0, 7, 9], np.uint8), size, p=[0.6, 0.3, 0.1])
            write_pair(tmp_path / "data" / split, f"{split}{number}", image, mask)
    root, classes = str(tmp_path / "data"), {"ground": 0, "roof": 7}
    return complete_data(DataConfig(root=root, classes=classes, ignore=[9], image_size=64))
