"""The runs and the export in old_run/COMMIT/, as earlier versions wrote them: 4cb98e3, before rooms, and 3d4965a.

To make them again, check the commit out and call there, with its own samseg:

    git worktree add /tmp/old 3d4965a
    cd /tmp/old && PYTHONPATH=. python .../tests/runs/make_old_run.py .../tests/runs/old_run/3d4965a

Of the weights only names, shapes and metadata are kept, as the old code wrote them; values follow from `formula`, so
that the fixture is small. The masks and figures are those that the old code gave for them.
"""

import json
import math
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from torch import Tensor

BASE = "sam.pth"  # the pretrained weights of the run with an adapter, in the current directory
COMMITS = ["4cb98e3", "3d4965a"]
EXPORT = "export"  # of the run with an adapter, which is merged
RUNS = {
    "whole": {"model": {"encoder": "tu-resnet18", "weights": None, "freeze_encoder": False}},
    "lora": {
        "model": {
            "encoder": "sam-vit_small",
            "weights": BASE,
            "freeze_encoder": True,
            "adapter": {"name": "lora", "rank": 2},
        }
    },
}
COMMON = {
    "model": {"arch": "unet", "decoder": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}},
    "data": {"root": "data", "classes": {"ground": 0, "green": [1, 3], "blue": 2}, "ignore": [9], "image_size": 64},
    "train": {"epochs": 1, "batch_size": 2, "workers": 0},
}


def formula(name: str, shape: list[int], dtype: torch.dtype) -> Tensor:
    """Values that follow from a tensor's name and shape, the same bits on every machine."""
    if not dtype.is_floating_point:
        return torch.ones(shape, dtype=dtype)
    count = math.prod(shape)
    numbers = (torch.arange(count, dtype=torch.int64) * 7919 + zlib.crc32(name.encode())) % 2003 - 1001
    values = (numbers.double() / 1001).reshape(shape)
    if len(shape) > 1:
        values = values * math.sqrt(3 * shape[0] / count)  # keeps the variance from layer to layer
    else:
        values = 0.1 * values + name.endswith(("weight", "running_var"))
    return values.to(dtype)


def write_scenes(root: Path) -> None:
    """Images of several sizes with squares of two classes."""
    generator = np.random.default_rng(0)
    for split, images in (("train", 2), ("val", 1), ("test", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(images):
            image = generator.integers(60, 120, (50 + 9 * number, 80 - 11 * number, 3), dtype=np.uint8)
            mask = np.zeros(image.shape[:2], np.uint8)
            mask[5:25, 10:30], mask[25:45, 30:60], mask[:3] = 1, 2, 9
            image[mask == 1, 1] += 90
            image[mask == 2, 2] += 90
            Image.fromarray(image).save(root / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")


def write_base(path: Path) -> None:
    """The checkpoint of `sam-vit_small` in segment-anything's layout."""
    import segmentation_models_pytorch as smp

    trunk = smp.encoders.get_encoder("sam-vit_small", weights=None).trunk.state_dict()
    state = {f"image_encoder.{name}": formula(name, list(value.shape), value.dtype) for name, value in trunk.items()}
    torch.save(state, path)


def rewrite(weights: Path, kept: Path) -> None:
    """Give a file of weights the values of `formula`, and keep its names, shapes and metadata in ``kept``."""
    try:
        from samseg.runs.tensors import save_weights
    except ImportError:  # 4cb98e3
        from samseg.checkpoint import save_weights

    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
        metadata.pop("sha256", None)  # of the tensors that are replaced
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    save_weights({key: formula(key, list(t.shape), t.dtype) for key, t in tensors.items()}, weights, metadata)
    shapes = {key: [list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in tensors.items()}
    metadata = {key: value.replace(f"{os.getcwd()}/", "") for key, value in metadata.items()}
    (kept / "weights.json").write_text(json.dumps({"metadata": metadata, "tensors": shapes}) + "\n")


def predict(run: Path, kept: Path) -> None:
    from samseg.inference.predictor import Predictor

    predictor = Predictor.from_run(run, "cpu")
    for image in sorted(Path("data/test/images").iterdir()):
        Image.fromarray(predictor(image)).save(kept / image.name)


def main(out: Path) -> None:
    import tests.encoders.conftest  # noqa: F401 (registers sam-vit_small)
    from samseg.training.evaluation import evaluate_run
    from samseg.training.run import train

    try:
        from samseg.config.load import load_config
    except ImportError:  # 4cb98e3
        from samseg.config import load_config

    write_scenes(Path("data"))
    write_base(Path(BASE))
    for name, settings in RUNS.items():
        content = COMMON | {"model": COMMON["model"] | settings["model"]}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
        run, kept = train(load_config(f"{name}.yaml"), name), out / name
        kept.mkdir(parents=True, exist_ok=True)
        rewrite(run / "best.safetensors", kept)
        (kept / "config.yaml").write_text((run / "config.yaml").read_text().replace(f"{os.getcwd()}/", ""))
        predict(run, kept)
        evaluation = evaluate_run(run, "test")
        if hasattr(evaluation, "write"):
            evaluation.write()
        (kept / "metrics_test.json").write_text((run / "metrics_test.json").read_text())
    try:
        from samseg.runs.export import export
    except ImportError:  # 4cb98e3
        return
    file, kept = export(run, "safetensors"), out / EXPORT
    kept.mkdir(exist_ok=True)
    rewrite(file, kept)
    predict(file, kept)


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    main(target)
