"""A run's folder: its files' names, which folder a run is written to, and whether an earlier run is resumed."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from samseg.common.errors import ConfigError, InputError
from samseg.common.files import refusals_named, sweep, written_whole
from samseg.data.config import PERCENTILE
from samseg.runs.config.load import run_config, save_config
from samseg.runs.config.schema import RunConfig
from samseg.runs.config.typed_yaml import parse_yaml, read_text
from samseg.runs.lock import lock_run

ROOT = Path("runs")  # of runs that are not given a run_dir
CONFIG = "config.yaml"
STATE = "state.pt"  # all that resuming needs
WEIGHTS = "best.safetensors"
METRICS = "metrics.json"  # of the best epoch
HISTORY = "history.csv"
CURVES = "curves.png"
PICTURES = "validation.png"
SAMPLES = "samples.png"  # of the training images, as the network is given them
FACTS = "facts.json"  # for the report
REPORT = "report.html"
EVENTS = "events.out.tfevents.*"  # TensorBoard's names
PREDICTIONS = "predictions"  # a folder
OBJECTS = "objects"  # a folder
# These may differ on resuming: they do not change the result.
FREE_KEYS = {"run_dir"} | {
    f"train.{key}" for key in ("resume", "workers", "cache_dir", "accept_changed_data", "trackers", "track_weights")
}
MOVABLE_KEYS = FREE_KEYS | {"data.root", "model.weights"}  # may be edited in a run's config.yaml: the files may move


def evaluation_file(folder: Path, split: str) -> Path:
    """Where the figures of a split are written."""
    return folder / f"metrics_{split}.json"


def details_file(folder: Path, split: str) -> Path:
    """Where the counts by image of a split are kept, for the report."""
    return folder / f"details_{split}.npz"


def objects_file(folder: Path, split: str) -> Path:
    """Where the true, missed and false objects of a split of maps are written."""
    return folder / f"objects_{split}.gpkg"


def is_run(path: Path) -> bool:
    return (path / CONFIG).is_file()


def read_run_config(run_dir: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration a run was trained with, with ``overrides``; InputError when ``run_dir`` is no run folder."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise InputError(f"no such run folder: {run_dir}")
    if not is_run(run_dir):
        raise InputError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    return run_config(read_text(run_dir / CONFIG), run_dir / CONFIG, overrides)


def copy_run(folder: Path, place: Path, names: Sequence[str] = (CONFIG, WEIGHTS)) -> None:
    """Make ``place`` a run folder with files of another: its configuration and its best weights."""
    for name in names:
        with written_whole(place / name) as temporary:
            shutil.copyfile(folder / name, temporary)


def check_config(folder: Path, written: str, source: object) -> None:
    """InputError, with what changed, unless a run's ``config.yaml`` is as ``source`` keeps it: ``written`` then.

    Where its files lie may have changed, and what does not change the result. Nothing is said of runs of older
    versions, for which ``written`` is empty.
    """
    now = read_text(folder / CONFIG)
    if written in ("", now):
        return
    changed = _changes(*(flat(parse_yaml(text, folder / CONFIG)) for text in (written, now)), MOVABLE_KEYS)
    if changed:
        raise InputError(
            f"{folder / CONFIG} was changed since {source} was written: {changed}; change it back, or start a new run"
        )


def newest_run(root: str | Path = ROOT) -> Path:
    """The run under ``root`` whose best weights were written last; InputError when there is none."""
    weights = sorted(Path(root).glob(f"*/{WEIGHTS}"), key=lambda file: file.stat().st_mtime)
    if not weights:
        raise InputError(
            f"there is no trained run under {root}/: train one, such as samseg train quickstart, or name a run folder"
        )
    return weights[-1].parent


def earlier_run(config: RunConfig, name: str) -> Path | None:
    """The folder of the run to resume; None when a new one starts.

    With ``train.resume`` it is ``run_dir`` if that holds a run, or the latest of runs/``name``, ``name``-2, ... A
    run that was never begun is begun, so that the command of a job that may be stopped needs no first and later form.

    Raises InputError when ``run_dir`` holds a run and is not to be resumed or a new run would lie among the data,
    ConfigError when it was begun with another configuration.
    """
    folder = Path(config.run_dir).expanduser() if config.run_dir is not None else ROOT / name
    with refusals_named(folder):
        if config.run_dir is not None:
            if folder.exists() and not folder.is_dir():
                raise InputError(f"run_dir={folder} is a file, not a folder; name another")
            begun = [folder] if _has_begun(folder) else []
            if begun and not config.train.resume:
                raise InputError(
                    f"{folder} already holds a run: resume it with train.resume=true, or name another run_dir"
                )
        else:
            there = takewhile(Path.exists, _numbered(name)) if config.train.resume else []
            begun = [earlier for earlier in there if _has_begun(earlier)]
        if not begun:
            _check_place(folder, config.data.root)
            return None
    _check_same(config, read_run_config(begun[-1]), begun[-1])
    return begun[-1]


def new_run(config: RunConfig, name: str, lock: ExitStack) -> Path:
    """Make the folder of a new run, with its ``config.yaml``, and return it; InputError where that cannot be.

    The folder is held until the ``lock`` is closed.
    """
    folder = Path(config.run_dir).expanduser() if config.run_dir is not None else None
    with refusals_named(f"the run folder {folder or ROOT / name}"):
        if folder is None:
            folder = _claim(name, lock)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            lock.enter_context(lock_run(folder))
            if _has_begun(folder):  # since `earlier_run` looked
                raise InputError(f"{folder} already holds a run, which has just begun; name another run_dir")
        _clear(folder)
        save_config(replace(config, run_dir=str(folder), train=replace(config.train, resume=False)), folder / CONFIG)
    return folder


def discard_unless_begun(folder: Path, lock: ExitStack) -> None:
    """Remove what a run wrote that has no state yet, so that its command can be mended and given again.

    The ``lock`` on the folder is closed.
    """
    begun = _has_begun(folder)
    if not begun:
        _clear(folder)
    lock.close()
    if not begun and not any(folder.iterdir()):
        folder.rmdir()


def sweep_saves(folder: Path) -> None:
    """Delete what killed saves of the run left half written; its lock must be held."""
    names = (CONFIG, STATE, WEIGHTS, METRICS, HISTORY, CURVES, PICTURES, SAMPLES, FACTS, REPORT)
    for name in (*names, details_file(folder, "*").name):
        sweep(folder / name)


def _has_begun(folder: Path) -> bool:
    """Whether the folder holds a run with a state or weights."""
    return is_run(folder) and any((folder / name).exists() for name in (STATE, WEIGHTS))


def _clear(folder: Path) -> None:
    """Remove all that a run without a state may have written."""
    sweep_saves(folder)
    for pattern in (CONFIG, PICTURES, SAMPLES, EVENTS, FACTS, details_file(folder, "*").name):
        for file in folder.glob(pattern):
            file.unlink()


def _check_place(folder: Path, root: str) -> None:
    if folder.resolve().is_relative_to(Path(root).resolve()):
        raise InputError(
            f"the run folder {folder} lies in data.root ({root}), where its pictures could be taken for data: name one "
            "elsewhere with run_dir="
        )


def _numbered(name: str) -> Iterator[Path]:
    """runs/name, runs/name-2, runs/name-3 ..."""
    return (ROOT / (name if number == 1 else f"{name}-{number}") for number in count(1))


def _claim(name: str, lock: ExitStack) -> Path:
    """Make and hold the first free of runs/name, runs/name-2 ...; runs that start at the same moment get one each."""
    for folder in _numbered(name):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not is_run(folder) or _has_begun(folder):
                continue
        try:
            lock.enter_context(lock_run(folder))
        except InputError:
            continue  # it is about to begin
        return folder


def _check_same(config: RunConfig, earlier: RunConfig, folder: Path) -> None:
    measured = {"train.batch_size": config.train.batch_size == "auto", "data.scale": config.data.scale == PERCENTILE}
    free = FREE_KEYS | {key for key, once in measured.items() if once}  # what was measured once stays
    before, now = (flat(asdict(run)) for run in (earlier, config))
    if changed := _changes(before, now, free):
        raise ConfigError(
            f"{folder} was begun with another configuration: {changed}; resume it with the one it had, or start a new "
            "run with train.resume=false and another run_dir"
        )


def _changes(before: dict[str, Any], now: dict[str, Any], free: set[str]) -> str:
    """The keys, but for the ``free`` ones, whose values differ, with both values; "" if there are none."""
    order = "the order of data.classes"
    for values in (before, now):
        values[order] = [key for key in values if key.startswith("data.classes.")]
    keys = sorted(key for key in now.keys() | before.keys() if key not in free and now.get(key) != before.get(key))
    return ", ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in keys)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """A tree of dicts as one, by dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = (flat(part, f"{prefix}.{name}".lstrip(".")) for name, part in tree.items())
    return {key: value for part in parts for key, value in part.items()}
