"""Run folders as their readers see them: the configuration and the best weights, without the training code."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from samseg import base
from samseg.config import RunConfig, load_config, read_run_config
from samseg.errors import InputError, WeightsError
from samseg.files import written_whole
from samseg.model import build_model

WEIGHTS = "best.safetensors"
METRICS = "metrics.json"
CONFIG_ENTRY = "config"  # of an exported file's metadata: the run's config.yaml


def load_run(path: str | Path) -> tuple[nn.Module, RunConfig]:
    """The best model of a run, on the CPU and in evaluation mode, and the run's configuration.

    ``path`` is a run folder, or the one file that `tools/export.py --to safetensors` makes of it. A run that trained on
    a frozen base reads the base's weights from where it had them, and checks that they are the same.

    Raises InputError for a path that is no run or has not finished an epoch, WeightsError for weights that are
    damaged or of another model, or a base that is gone or another. No pickled code is executed.
    """
    path = Path(path)
    if path.is_file():
        file, config = path, _config_in(path)
    else:
        file, config = path / WEIGHTS, read_run_config(path)
    if not file.is_file():
        raise InputError(f"{path} has no {WEIGHTS}: no epoch of this run was finished; go on with train.resume=true")
    state, metadata = read_weights(file)
    model = rebuild(config, metadata, file)
    base.fit(model, state, metadata, file)
    return model.eval(), config


def rebuild(config: RunConfig, metadata: Mapping[str, str], source: object) -> nn.Module:
    """The model that a checkpoint of ``metadata`` goes into, with the base it was trained on, if it was on one.

    Raises WeightsError, naming the ``source``, if the base's weights cannot be had.
    """
    based = base.WEIGHTS in metadata
    try:
        return build_model(config.model, classes=len(config.data.classes), pretrained=based)
    except WeightsError as error:
        if not based:
            raise
        raise WeightsError(
            f"{source} holds only what was trained, on the base weights {metadata[base.WEIGHTS]} of sha256 "
            f"{metadata[base.DIGEST][:16]}, which cannot be had: {error}"
        ) from error


def newest_run(root: str | Path = "runs") -> Path:
    """The run under ``root`` whose best weights were written last; InputError when there is none."""
    weights = sorted(Path(root).glob(f"*/{WEIGHTS}"), key=lambda file: file.stat().st_mtime)
    if not weights:
        raise InputError(f"there is no trained run under {root}/: train one with tools/train.py, or name a run folder")
    return weights[-1].parent


def save_weights(state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name as safetensors with ``metadata``, whole or not at all."""
    copies = {name: value.detach().cpu().clone() for name, value in state.items()}  # shared memory is refused
    with written_whole(path) as temporary:
        mode = temporary.stat().st_mode
        safetensors.torch.save_file(copies, temporary, {"format": "pt", **(metadata or {})})
        temporary.chmod(mode)  # safetensors makes its files private; a run folder is shared like any other


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata that `save_weights` wrote; WeightsError if the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); copy or train it again") from None


def _config_in(file: Path) -> RunConfig:
    """The configuration in the metadata of an exported file."""
    try:
        with safe_open(file, "pt") as content:
            text = (content.metadata() or {}).get(CONFIG_ENTRY)
    except (SafetensorError, OSError):
        text = None
    if text is None:
        raise InputError(f"{file} is not an exported model: name a run folder, or a file that tools/export.py made")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path)
