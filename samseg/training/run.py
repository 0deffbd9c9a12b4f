"""A training run from its configuration to its folder."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from samseg.config.load import task_of
from samseg.config.schema import RunConfig
from samseg.data.config import PERCENTILE
from samseg.data.scale import measured_scale
from samseg.errors import ConfigError, InputError
from samseg.report.run import write_report
from samseg.runs.facts import save_facts
from samseg.runs.folder import (
    CONFIG,
    CURVES,
    PICTURES,
    STATE,
    WEIGHTS,
    discard_unless_begun,
    earlier_run,
    new_run,
    read_run_config,
    sweep_saves,
)
from samseg.runs.lock import held
from samseg.runs.state import RunState, load_state
from samseg.tasks import Task
from samseg.training.batch_size import AUTO, find_batch_size
from samseg.training.failures import check_memory, explained
from samseg.training.machine import machine, peak_memory
from samseg.training.processes import accelerator_for, on_main, own_accelerator, too_few
from samseg.training.report import draw_curves
from samseg.training.stopping import sigterm_noted
from samseg.training.trainer import Trainer


@own_accelerator()
def train(config: RunConfig, name: str) -> Path:
    """Train what ``config`` says, or go on with it, and return the run folder.

    ``name`` names the run under ``runs/`` when ``config.run_dir`` does not. The folder is made only after the data and
    the model have proved sound. InputError, in one line, for everything the user can mend; Terminated when SIGTERM
    stopped it.
    """
    check_memory(config)
    accelerator, task = accelerator_for(config.train), task_of(config)
    if warning := too_few(accelerator):
        accelerator.print(warning)
    with ExitStack() as lock:  # one process holds the folder for all, until the run ends

        def claimed(folder: Path | None) -> Path | None:
            if folder is not None:
                lock.enter_context(held(folder))
                sweep_saves(folder)
            return folder

        folder = on_main(accelerator, lambda: claimed(earlier_run(config, name)))
        state = (load_state(folder) if folder else None) or RunState()
        if len(set(gather_object([(state.epoch, state.part["images"])]))) > 1:
            raise InputError(f"{folder} differs between machines: run_dir must be on a disk that all of them share")
        if state.epoch and accelerator.is_main_process:
            state.write_results(folder)  # a kill may have come between the state and them
            draw_curves(state.history, task, folder / CURVES)
        if state.finished(config.train.epochs, config.train.patience):
            _finish(accelerator, state, task, folder, f"{folder} is finished already, after {state.epoch} epochs")
            return folder
        if config.train.resume:
            accelerator.print(
                f"going on after {state.position()}" if state.begun() else "nothing to resume: starting anew"
            )

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
        if config.data.scale == PERCENTILE:
            scale = (
                read_run_config(folder).data.scale
                if folder
                else on_main(accelerator, lambda: measured_scale(config.data))
            )
            config = replace(config, data=replace(config.data, scale=scale))
            accelerator.print(f"data.scale: {PERCENTILE} is {scale}")
        if config.train.batch_size == AUTO:
            found = read_run_config(folder).train.batch_size if folder else find_batch_size(config, accelerator, report)
            config = replace(config, train=replace(config.train, batch_size=found))
            accelerator.print(f"train.batch_size: auto is {found}")
        trainer = Trainer(config, accelerator, report, state, source=folder)
        accelerator.print(trainer.summary())
        if folder is None:
            folder = on_main(accelerator, lambda: new_run(config, name, lock))
        facts = {"parameters": trainer.parameters, **machine(accelerator), "precision": config.train.precision}
        state.config = (folder / CONFIG).read_text(encoding="utf-8")
        try:
            on_main(accelerator, lambda: save_facts(folder, facts, task.reporter().data(report)))
            with explained(config.train), sigterm_noted() as stop:
                trainer.run(folder, stop)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                saved = "the same command with train.resume=true goes on"
                kept = saved if (folder / STATE).exists() else "no state was saved, nothing is kept"
                accelerator.print(f"\nstopped in epoch {state.epoch + 1}; {kept}")
            if accelerator.is_main_process:
                discard_unless_begun(folder, lock)
            raise
        facts["most memory"] = peak_memory(accelerator.device)
        on_main(accelerator, lambda: save_facts(folder, facts, task.reporter().data(report)))
        early = f" (stopped early: no better {task.score_name})" if state.epoch < config.train.epochs else ""
        _finish(accelerator, state, task, folder, f"finished after {state.epoch} epochs{early}")
        if accelerator.num_processes > 1:
            del trainer
            accelerator.free_memory()  # DDP has to go before its process group, or processes may abort at their end
        accelerator.end_training()
        return folder


def _finish(accelerator: Accelerator, state: RunState, task: Task, folder: Path, title: str) -> None:
    """Say what came out and where it lies."""
    accelerator.print(
        f"{title}; the best is epoch {state.best_epoch}, on the validation images:\n{task.table(state.best)}\n"
        f"weights: {folder / WEIGHTS}; curves: {folder / CURVES}; pictures: {folder / PICTURES}"
    )
    if accelerator.is_main_process:
        accelerator.print(f"report: {write_report(folder)}")
