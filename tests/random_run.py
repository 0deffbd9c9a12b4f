"""A run folder as training leaves it, with random weights: what inference needs, made in a moment."""

from pathlib import Path

import torch

from samseg.data.config import DataConfig
from samseg.models.config import ModelConfig
from samseg.runs.config.load import load_config, save_config, task_of
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import WEIGHTS
from samseg.runs.tensors import save_weights

CLASSES = {"background": 0, "roof": 1, "tree": 2}


def write_run(folder: Path, root: str = "nowhere", precision: str = "fp32", encoder: str = "resnet18") -> Path:
    decoder = {"decoder_channels": [16, 16, 8, 8, 8]}
    config = RunConfig(
        run_dir=str(folder),
        model=ModelConfig(encoder=encoder, weights=None, freeze_encoder=False, decoder=decoder),
        data=DataConfig(root=root, classes=CLASSES, image_size=64),
    )
    config.train.precision = precision
    return write_run_of(config, folder)


def write_run_of(config: RunConfig, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder / "config.yaml")
    config = load_config(folder / "config.yaml")
    save_config(config, folder / "config.yaml")  # as resolved
    torch.manual_seed(0)
    save_weights(task_of(config).build_model(pretrained=False).model.state_dict(), folder / WEIGHTS)
    return folder
