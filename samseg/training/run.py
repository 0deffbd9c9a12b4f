"""A training run from its configuration to its folder."""

from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from samseg.report.run import write_report
from samseg.runs.config.schema import RunConfig
from samseg.runs.facts import save_facts
from samseg.runs.folder import CONFIG, CURVES, PICTURES, SAMPLES, STATE, WEIGHTS, discard_unless_begun, flat, new_run
from samseg.runs.state import RunState
from samseg.tasks import Task
from samseg.training.failures import mendable_errors
from samseg.training.machine import machine, peak_memory
from samseg.training.prepare import prepare
from samseg.training.processes import on_main, own_accelerator
from samseg.training.report import draw_curves, in_epochs
from samseg.training.stopping import sigterm_noted
from samseg.training.tracking import tracked


@own_accelerator()
def train(config: RunConfig, name: str) -> Path:
    """Train what ``config`` says, or go on with it, and return the run folder.

    ``name`` names the run under ``runs/`` when ``config.run_dir`` does not. The folder is made only after the data and
    the model have proved sound. InputError, in one line, for everything the user can mend; Terminated when SIGTERM
    stopped it.
    """
    with ExitStack() as lock:
        config, accelerator, task, folder, state, report, trainer = prepare(config, name, lock)
        if trainer is None:
            _finish(accelerator, state, task, folder, f"{folder} is finished already, after {in_epochs(state.epoch)}")
            return folder
        begins = folder is None
        if begins:
            folder = on_main(accelerator, lambda: new_run(config, name, lock))
        facts = {"parameters": trainer.parameters, **machine(accelerator), "precision": config.train.precision}
        state.config = (folder / CONFIG).read_text(encoding="utf-8")
        try:
            on_main(accelerator, lambda: save_facts(folder, facts, task.reporter().data(report)))
            drawn = begins and on_main(accelerator, partial(trainer.save_samples, folder / SAMPLES))
            settings = flat(asdict(config))
            with tracked(config.train.trackers, settings, folder, state, accelerator) as tracking:
                if drawn:
                    tracking.picture(folder / SAMPLES, 0)
                with mendable_errors(config.train), sigterm_noted() as stop, closing(trainer.loader):
                    trainer.run(folder, stop, tracking)
                tracking.results(task, state)
                if config.train.track_weights:
                    tracking.weights(folder / WEIGHTS)
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
        early = "" if state.epoch >= config.train.epochs else f" (stopped early: no better {task.score_name})"
        if trainer.spent() >= 1:
            early = f" in {config.train.max_minutes:g} minutes"
        _finish(accelerator, state, task, folder, f"finished after {in_epochs(state.epoch)}{early}")
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
        draw_curves(state.history, task, folder / CURVES)
        accelerator.print(f"report: {write_report(folder)}")
