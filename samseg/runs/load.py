"""The best model of a run: its configuration, the base it trained on and what it learnt."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from samseg.common.errors import InputError, WeightsError
from samseg.models import pretrained
from samseg.models.build import Built
from samseg.runs.config.load import run_config, task_of
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import CONFIG, WEIGHTS, check_config, read_run_config
from samseg.runs.hub.pull import local_run
from samseg.runs.tensors import CONFIG_ENTRY, read_metadata, read_weights
from samseg.tasks import Task


def load_run(path: str | Path) -> tuple[nn.Module, RunConfig]:
    """The best model of a run, on the CPU and in evaluation mode, and the run's configuration.

    ``path`` is a run folder, its ``best.safetensors``, the one file that `samseg export --to safetensors` makes of it,
    or hub:USER/NAME. A run that trained on a frozen base reads the base's weights from where it had them, and checks
    that they are the same.

    Raises InputError for a path that is no run or has not finished an epoch, WeightsError for weights that are
    damaged or of another model, or a base that is gone or another. No pickled code is executed.
    """
    path = local_run(path)
    file, config = path if path.is_file() else path / WEIGHTS, run_config_of(path)
    if not file.is_file():
        raise InputError(f"{path} has no {WEIGHTS}: no epoch of this run was finished; go on with train.resume=true")
    state, metadata = read_weights(file)
    if path.is_dir():
        check_config(path, metadata.get(CONFIG_ENTRY, ""), file)
    model, base = rebuild(task_of(config), metadata, file)
    pretrained.load_trained(model, base, state, metadata, file)
    return model.eval(), config


def rebuild(task: Task, metadata: Mapping[str, str], source: object) -> Built:
    """The model of ``task`` that a checkpoint of ``metadata`` goes into, with the base it was trained on, if any.

    Raises WeightsError, naming the ``source``, if the base's weights cannot be had.
    """
    based = pretrained.WEIGHTS in metadata
    if based and pretrained.DIGEST not in metadata:
        raise WeightsError(f"{source} names its base weights, {metadata[pretrained.WEIGHTS]}, but not their sha256")
    try:
        return task.build_model(pretrained=based)
    except WeightsError as error:
        if not based:
            raise
        raise WeightsError(
            f"{source} holds only what was trained, on the base weights {metadata[pretrained.WEIGHTS]} of sha256 "
            f"{metadata[pretrained.DIGEST][:16]}, which cannot be had: {error}"
        ) from error


def run_config_of(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of what `load_run` takes, with ``overrides``; no weights are fetched from the hub for it."""
    path = local_run(path, (CONFIG,))
    if not path.is_file():
        return read_run_config(path, overrides)
    text = read_metadata(path).get(CONFIG_ENTRY)
    if text is None:
        raise InputError(f"{path} is not an exported model: name a run folder, or a file that samseg export made")
    return run_config(text, path, overrides)
