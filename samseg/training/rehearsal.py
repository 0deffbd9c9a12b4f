"""A dry run: everything that training does, twice, and nothing kept but a picture of what it would see."""

import math
import time
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path

from torch.utils.data import Subset

from samseg.report.run import duration
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import SAMPLES
from samseg.tasks.evaluate import evaluate
from samseg.training.failures import mendable_errors
from samseg.training.machine import peak_memory
from samseg.training.prepare import prepare
from samseg.training.processes import on_main, own_accelerator, whole_on_each
from samseg.training.report import in_epochs
from samseg.training.trainer import Trainer

TWICE = 2  # steps, validation images: the first starts readers and fills caches, the second is timed


@own_accelerator()
def rehearse(config: RunConfig, name: str) -> None:
    """Check what `train` would check, draw training samples, try steps and validation, and say what an epoch takes.

    Writes `samples.png` into the current folder and no run. InputError as `train`.
    """
    with ExitStack() as lock:
        config, accelerator, _, folder, state, _, trainer = prepare(config, name, lock)
        if trainer is None:
            accelerator.print(f"{folder} is finished already, after {in_epochs(state.epoch)}: there is nothing to try")
            return
        samples = on_main(accelerator, partial(trainer.save_samples, Path(SAMPLES)))
        with mendable_errors(config.train), closing(trainer.loader):
            training = trainer.steps * _seconds_a_step(trainer)
            validation = len(trainer.validation) / trainer.processes * _seconds_an_image(trainer)
        epoch, left = training + validation, config.train.epochs - state.epoch
        if config.train.max_minutes is not None:
            left = min(left, max(1, math.ceil((60 * config.train.max_minutes - state.seconds()) / epoch)))
        accelerator.print(
            f"dry run: an epoch takes about {duration(epoch)} ({duration(training)} of {trainer.steps} steps, "
            f"{duration(validation)} of {len(trainer.validation)} validation images), {in_epochs(left)} "
            f"{duration(left * epoch)}; most memory {peak_memory(accelerator.device)}"
        )
        if samples:
            accelerator.print(f"what training sees: {SAMPLES}")
        if accelerator.num_processes > 1:
            del trainer
            accelerator.free_memory()  # as `train` does
        accelerator.end_training()


def _seconds_a_step(trainer: Trainer) -> float:
    """Seconds of the last of the steps that are tried, reading included."""
    epoch, seconds = trainer.state.epoch + 1, 0.0
    trainer.begin(epoch)
    batches = iter(trainer.loader)
    for number in range(TWICE):
        started = time.monotonic()
        if step := list(islice(batches, trainer.settings.accumulate)):
            trainer.step(step, epoch, number)
            seconds = time.monotonic() - started
    return seconds


def _seconds_an_image(trainer: Trainer) -> float:
    """Seconds of the last of the validation images that are tried, each process its own."""
    seconds = 0.0
    with whole_on_each(trainer.accelerator, trainer.model) as network:
        for index in range(min(TWICE, len(trainer.validation))):
            started = time.monotonic()
            evaluate(network, Subset(trainer.validation, [index]), trainer.task, trainer.accelerator.device)
            seconds = time.monotonic() - started
    return seconds
