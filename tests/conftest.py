"""Fixtures that tests of several modules share: tiny scenes, and a configuration that trains on them in a second."""

import gc
import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # each a share of the cores, not all of them
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(workers)))

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin take the cores from what else runs

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

# Real images, where there are.
SHARED = Path(os.environ.get("SAMSEG_SHARED", Path(__file__).parents[2] / "shared" / "data"))
TINY = {
    "model": {
        "encoder": "tu-resnet18",  # timm's builds the stages that are asked for and no more
        "weights": None,
        "freeze_encoder": False,
        "decoder": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    },
    "data": {"classes": {"ground": 0, "green": [1, 3], "blue": 2}, "ignore": [9], "image_size": 64},
    "train": {"epochs": 3, "batch_size": 2, "lr": 0.002, "workers": 0},
}


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_collection_finish() -> None:
    """What was imported stays: each full collection would go through it, a quarter of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """A data.root of noisy pictures with a green and a blue square, of many sizes, three rows of them ignored (9)."""
    root = tmp_path_factory.mktemp("scenes")
    generator = np.random.default_rng(0)
    for split, images in (("train", 6), ("val", 3), ("test", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(images):
            height, width = 47 + 9 * number, 80 - 11 * (number % 3)
            image = generator.integers(60, 120, (height, width, 3), dtype=np.uint8)
            mask = np.zeros((height, width), np.uint8)
            for label in (1, 2):
                top, left = generator.integers(3, height - 20), generator.integers(0, width - 20)
                mask[top : top + 20, left : left + 20] = label
                image[top : top + 20, left : left + 20, label] += 90
            mask[:3] = 9
            Image.fromarray(image).save(root / split / "images" / f"{split}{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{split}{number}.png")
    return root


@pytest.fixture
def tiny_config(scenes, tmp_path) -> Path:
    """A YAML file that trains half a resnet18 at 64 px on `scenes`."""
    path = tmp_path / "tiny.yaml"
    content = TINY | {"data": TINY["data"] | {"root": str(scenes)}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def cpu(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Says which kind the CPU is, such as "amd-avx2"."""
    from tests.kinds import feign

    return lambda kind: feign(kind, tmp_path, monkeypatch)


@pytest.fixture
def command(capsys) -> Callable[..., tuple[int, str, str]]:
    """Run a command of `samseg` within this process, which has imported torch already; (exit code, stdout, stderr)."""

    from samseg.cli.main import main  # not above: the process that gives tests to others has no use for torch

    def call(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return end.value.code or 0, *capsys.readouterr()

    return call
