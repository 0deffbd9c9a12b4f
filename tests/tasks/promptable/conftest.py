"""Small scenes with numbered objects, and a configuration that trains on them in seconds."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.encoders.conftest import SMALL

MODEL = {"arch": "sam", "encoder": SMALL, "weights": None, "freeze_encoder": True}


@pytest.fixture(scope="module")
def objects_root(tmp_path_factory) -> Path:
    """train/ and val/: images, masks (0 and 255) and instances (16-bit) with 0 to 3 squares of 14 px, two of them side
    by side, which are one area of the mask."""
    root = tmp_path_factory.mktemp("objects")
    generator = np.random.default_rng(0)
    for split, counts in (("train", (3, 2, 0, 1)), ("val", (3, 0))):
        for kind in ("images", "masks", "instances"):
            (root / split / kind).mkdir(parents=True)
        for number, count in enumerate(counts):
            image = generator.integers(60, 120, (50, 70, 3), dtype=np.uint8)
            objects = np.zeros((50, 70), np.uint16)
            for i, left in enumerate((4, 18, 45)[:count]):
                objects[10:24, left : left + 14] = 1000 * (i + 1)
            image[objects > 0] += 90
            Image.fromarray(image).save(root / split / "images" / f"{number}.png")
            Image.fromarray(255 * (objects > 0).astype(np.uint8)).save(root / split / "masks" / f"{number}.png")
            Image.fromarray(objects).save(root / split / "instances" / f"{number}.png")
    return root


@pytest.fixture
def config_file(objects_root, tmp_path) -> Path:
    content = {
        "task": "promptable",
        "model": MODEL,
        "data": {"root": str(objects_root), "classes": {"background": 0, "square": 255}, "image_size": 64},
        "train": {"epochs": 2, "batch_size": 2, "lr": 0.0003, "workers": 0, "cache_dir": str(tmp_path / "cache")},
        "prompts": {"rounds": 1, "objects": 2},
    }
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
