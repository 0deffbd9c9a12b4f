"""A run's folder: what its files are called, which folder a run is written to, and whether an earlier run is resumed."""

from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

from samseg.config.load import load_config, save_config
from samseg.config.schema import RunConfig
from samseg.data.config import PERCENTILE
from samseg.errors import ConfigError, InputError
from samseg.runs.lock import held

ROOT = Path("runs")  # of runs that are not given a run_dir
CONFIG = "config.yaml"
STATE = "state.pt"  # all that resuming needs
WEIGHTS = "best.safetensors"
METRICS = "metrics.json"  # of the best epoch
HISTORY = "history.csv"
CURVES = "curves.png"
PICTURES = "validation.png"
EVENTS = "events.out.tfevents.*"  # TensorBoard's names
PREDICTIONS = "predictions"  # a folder
# These may differ on resuming: they do not change the result.
FREE_KEYS = {"run_dir", "train.resume", "train.workers", "train.cache_dir"}


def evaluation_file(folder: Path, split: str) -> Path:
    """Where the figures of a split are written."""
    return folder / f"metrics_{split}.json"


def is_run(path: Path) -> bool:
    return (path / CONFIG).is_file()


def read_run_config(run_dir: str | Path) -> RunConfig:
    """The configuration a run was trained with; InputError when ``run_dir`` is no run folder."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise InputError(f"no such run folder: {run_dir}")
    if not is_run(run_dir):
        raise InputError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    return load_config(run_dir / CONFIG)


def newest_run(root: str | Path = ROOT) -> Path:
    """The run under ``root`` whose best weights were written last; InputError when there is none."""
    weights = sorted(Path(root).glob(f"*/{WEIGHTS}"), key=lambda file: file.stat().st_mtime)
    if not weights:
        raise InputError(f"there is no trained run under {root}/: train one, or name a run folder")
    return weights[-1].parent


def earlier_run(config: RunConfig, name: str, root: Path = ROOT) -> Path | None:
    """The folder of the run to resume; None when a new one starts.

    With ``train.resume`` it is ``run_dir`` if that holds a run, or the latest of ``root``/``name``, ``name``-2, ... A
    run that was never begun is begun, so that the command of a job that may be stopped needs no first and later form.

    Raises InputError when ``run_dir`` holds a run and is not to be resumed, ConfigError when it was begun with another
    configuration.
    """
    if config.run_dir is not None:
        folder = Path(config.run_dir).expanduser()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"run_dir={folder} is a file, not a folder; name another")
        if not (folder / CONFIG).exists():
            return None
        if not config.train.resume:
            raise InputError(f"{folder} already holds a run: resume it with train.resume=true, or name another run_dir")
    else:
        taken = [folder for folder in _names(root, name) if (folder / CONFIG).exists()] if config.train.resume else []
        if not taken:
            return None
        folder = taken[-1]
    _check_same(config, read_run_config(folder), folder)
    return folder


def new_run(config: RunConfig, name: str, root: Path = ROOT) -> Path:
    """Make the folder of a new run, with its ``config.yaml``, and return it; InputError where that cannot be."""
    try:
        if config.run_dir is not None:
            folder = Path(config.run_dir).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _claim(root, name)
        with held(folder):  # two runs that start at the same moment in one run_dir do not write over each other
            if (folder / CONFIG).exists():
                raise InputError(f"{folder} already holds a run, which has just begun; name another run_dir")
            save_config(
                replace(config, run_dir=str(folder), train=replace(config.train, resume=False)), folder / CONFIG
            )
    except OSError as error:
        raise InputError(f"the run folder cannot be written: {error}; name another with run_dir=") from error
    return folder


def discard_unless_begun(folder: Path) -> None:
    """Remove what a run wrote that failed before its first epoch's end, so that it can be mended and started again."""
    if (folder / STATE).exists():
        return
    for pattern in (CONFIG, PICTURES, EVENTS):
        for file in folder.glob(pattern):
            file.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _names(root: Path, name: str):
    """The existing of root/name, root/name-2, root/name-3 ..., up to the first gap."""
    for number in count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return
        yield folder


def _claim(root: Path, name: str) -> Path:
    """Make the first free of root/name, root/name-2 ...; runs that start at the same moment get one each."""
    for number in count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder


def _check_same(config: RunConfig, earlier: RunConfig, folder: Path) -> None:
    now, before = (
        _flat(asdict(run)) | {"the order of data.classes": list(run.data.classes)} for run in (config, earlier)
    )
    measured = {"train.batch_size": config.train.batch_size == "auto", "data.scale": config.data.scale == PERCENTILE}
    free = FREE_KEYS | {key for key, once in measured.items() if once}  # what was measured once stays
    keys = sorted(key for key in now.keys() | before.keys() if key not in free and now.get(key) != before.get(key))
    if keys:
        changes = ", ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in keys)
        raise ConfigError(
            f"{folder} was begun with another configuration: {changes}; resume it with the one it had, or start a new "
            "run with train.resume=false and another run_dir"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = (_flat(part, f"{prefix}.{name}".lstrip(".")) for name, part in tree.items())
    return {key: value for part in parts for key, value in part.items()}
