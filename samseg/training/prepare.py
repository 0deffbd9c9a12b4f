"""Everything before a run's first step: checked and built, with nothing written yet."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from accelerate.utils import gather_object

from samseg.common.errors import ConfigError, InputError
from samseg.data.config import PERCENTILE
from samseg.data.scale import measured_scale
from samseg.runs.config.load import task_of
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import earlier_run, read_run_config, sweep_saves
from samseg.runs.lock import lock_run
from samseg.runs.state import RunState, load_state
from samseg.tasks import Task
from samseg.training.batch_size import AUTO, find_batch_size
from samseg.training.failures import check_memory
from samseg.training.processes import accelerator_for, on_main, too_few
from samseg.training.trackers import check_trackers
from samseg.training.trainer import Trainer


class Prepared(NamedTuple):
    """A run that can begin, or go on.

    Attributes:
        config: with what was measured in place of `auto` and `percentile`.
        folder: of the run that is resumed, whose lock is held; None: a new one starts.
        report: of the data, by the task; None where ``trainer`` is.
        trainer: None: the run is finished.
    """

    config: RunConfig
    accelerator: Accelerator
    task: Task
    folder: Path | None
    state: RunState
    report: Any = None
    trainer: Trainer | None = None


def prepare(config: RunConfig, name: str, lock: ExitStack) -> Prepared:
    """Look at settings, device, earlier run and data, and build what is to be trained, saying what is found.

    ``name`` names the run under ``runs/`` when ``config.run_dir`` does not; an earlier run is held until the ``lock``
    is closed. Raises InputError, one line, for everything that the user can mend.
    """
    task = task_of(config)
    check_memory(task.preprocessing, len(config.data.classes))
    check_trackers(config.train.trackers)
    accelerator = accelerator_for(config.train)
    if warning := too_few(accelerator):
        accelerator.print(warning)
    folder, state = _earlier(config, name, accelerator, lock)
    if state.epoch and accelerator.is_main_process:
        state.write_results(folder)  # a kill may have come between the state and them
    if state.finished(config.train.epochs, config.train.patience, config.train.max_minutes):
        return Prepared(config, accelerator, task, folder, state)
    if config.train.resume:
        accelerator.print(f"going on after {state.position()}" if state.begun() else "nothing to resume: starting anew")
    report = on_main(accelerator, lambda: task.check(("train", "val")))
    accelerator.print(report)
    changed = state.changed_data(report.contents)
    if changed and not config.train.accept_changed_data:
        raise ConfigError(
            f"the data are not those that {folder} was begun with: {changed}; put them back, or go on with those "
            "of now with train.accept_changed_data=true"
        )
    if changed:
        accelerator.print(f"WARNING: going on with other data than before: {changed}")
    state.data = report.contents
    config, task = _measured(config, task, folder, report, accelerator)
    trainer = Trainer(task, config.train, config.seed, accelerator, report, state, source=folder)
    shown = task.preprocessing
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (shown.mean, shown.std))
    accelerator.print(f"images: {shown.size} px a side, mean {mean}, std {std}")
    accelerator.print(trainer.summary())
    return Prepared(config, accelerator, task, folder, state, report, trainer)


def _earlier(config: RunConfig, name: str, accelerator: Accelerator, lock: ExitStack) -> tuple[Path | None, RunState]:
    """Find and lock the run to resume, and load its state; None and a new state where there is none."""

    def claimed(folder: Path | None) -> Path | None:
        if folder is not None:
            lock.enter_context(lock_run(folder))  # one process holds the folder for all, until the run ends
            sweep_saves(folder)
        return folder

    folder = on_main(accelerator, lambda: claimed(earlier_run(config, name)))
    state = (load_state(folder) if folder else None) or RunState()
    if len(set(gather_object([(state.epoch, state.part["images"])]))) > 1:
        raise InputError(f"{folder} differs between machines: run_dir must be on a disk that all of them share")
    return folder, state


def _measured(
    config: RunConfig, task: Task, folder: Path | None, report: Any, accelerator: Accelerator
) -> tuple[RunConfig, Task]:
    """The configuration and its task with what is measured once: by this run, or by the earlier one in ``folder``."""
    if config.data.scale == PERCENTILE:
        scale = (
            read_run_config(folder).data.scale if folder else on_main(accelerator, lambda: measured_scale(config.data))
        )
        config = replace(config, data=replace(config.data, scale=scale))
        task = task_of(config)
        accelerator.print(f"data.scale: {PERCENTILE} is {scale}")
    if config.train.batch_size == AUTO:
        if folder:
            found = read_run_config(folder).train.batch_size
        else:
            found = find_batch_size(task, config.train, accelerator, report)
        config = replace(config, train=replace(config.train, batch_size=found))
        accelerator.print(f"train.batch_size: auto is {found}")
    return config, task
