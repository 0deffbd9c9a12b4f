"""Run folders as their readers see them: the configuration and the best weights, without the training code."""

from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from samseg.config import RunConfig, read_run_config
from samseg.errors import InputError, WeightsError
from samseg.files import written_whole
from samseg.model import build_model

WEIGHTS = "best.safetensors"
METRICS = "metrics.json"


def load_run(path: str | Path) -> tuple[nn.Module, RunConfig]:
    """The best model of a run, on the CPU and in evaluation mode, and the run's configuration.

    Raises InputError for a folder that is no run or has not finished an epoch, WeightsError for weights that are
    damaged or of another model. No pickled code is executed.
    """
    path = Path(path)
    config = read_run_config(path)
    if not (path / WEIGHTS).is_file():
        raise InputError(f"{path} has no {WEIGHTS}: no epoch of this run was finished; go on with train.resume=true")
    model = build_model(config.model, classes=len(config.data.classes), pretrained=False)
    load_weights(model, path / WEIGHTS)
    return model.eval(), config


def newest_run(root: str | Path = "runs") -> Path:
    """The run under ``root`` whose best weights were written last; InputError when there is none."""
    weights = sorted(Path(root).glob(f"*/{WEIGHTS}"), key=lambda file: file.stat().st_mtime)
    if not weights:
        raise InputError(f"there is no trained run under {root}/: train one with tools/train.py, or name a run folder")
    return weights[-1].parent


def save_weights(state: dict[str, Tensor], path: str | Path) -> None:
    """Write a model's ``state_dict`` as safetensors, whole or not at all."""
    copies = {name: value.detach().cpu().clone() for name, value in state.items()}  # shared memory is refused
    with written_whole(path) as temporary:
        mode = temporary.stat().st_mode
        safetensors.torch.save_file(copies, temporary)
        temporary.chmod(mode)  # safetensors makes its files private; a run folder is shared like any other


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load what `save_weights` wrote into ``model``; WeightsError if the file is damaged or of another model."""
    try:
        state = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); copy or train it again") from None
    own = model.state_dict()
    wrong = [name for name in own.keys() | state.keys() if name not in own or name not in state]
    wrong += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if wrong:
        raise WeightsError(
            f"{path} does not fit the model of its config.yaml: {len(wrong)} tensors differ, such as {min(wrong)}; "
            "put back the config.yaml the run was trained with"
        )
    model.load_state_dict(state)
