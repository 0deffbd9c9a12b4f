"""The training loop."""

import math
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from torch.distributed.checkpoint import state_dict as dcp
from torch.optim.lr_scheduler import LambdaLR

from samseg.common.errors import Terminated
from samseg.data.loader import Loader
from samseg.encoders.adapters.auxiliary import auxiliary_losses
from samseg.features.fill import with_features
from samseg.features.store import cache_folder
from samseg.models.pretrained import load_trained, trained_part
from samseg.models.trainable import checkpoint_gradients, count_parameters, learns_statistics
from samseg.predict.draw import save_picture
from samseg.runs.config.load import MOST
from samseg.runs.config.schema import TrainConfig
from samseg.runs.facts import save_split
from samseg.runs.folder import CURVES, PICTURES, STATE
from samseg.runs.load import rebuild
from samseg.runs.state import RunState
from samseg.tasks.evaluate import evaluate
from samseg.tasks.task import Details, Figures, Metrics, Task
from samseg.training.batches import EpochBatches, epoch_seed
from samseg.training.failures import check_finite, mendable_errors
from samseg.training.optimizer import optimizer_for, warmup_cosine
from samseg.training.processes import any_process, largest_of_processes, whole_on_each
from samseg.training.report import Progress, draw_curves, epoch_line, in_epochs
from samseg.training.stopping import StopRequest
from samseg.training.tracking import Tracking

CURVES_SECONDS = 10  # the curves are drawn so often, and when the run is finished
SAVE_MINUTES = 15  # the state is saved so often within an epoch
WHOLE = dcp.StateDictOptions(full_state_dict=True, cpu_offload=True)  # by name, on the main process, unsharded


class Trainer:
    """Model, data and optimiser of one run, at the point that ``state`` has reached; `run` trains to the end."""

    def __init__(
        self,
        task: Task,
        settings: TrainConfig,
        seed: int,
        accelerator: Accelerator,
        report: Any,
        state: RunState,
        source: Path | None = None,
    ):
        self.task, self.settings, self.seed, self.accelerator, self.state = task, settings, seed, accelerator, state
        self.training = task.dataset("train", train=True, seed=seed)
        self.validation = task.dataset("val", train=False, seed=seed)
        self.rank, self.processes = accelerator.process_index, accelerator.num_processes
        images = len(self.training)
        self.batches = EpochBatches(images, settings.batch_size, seed, self.rank, self.processes)
        pinned = accelerator.device.type == "cuda"
        self.loader = Loader(self.training, settings.workers, batch_sampler=self.batches, pin_memory=pinned)
        self.steps = math.ceil(len(self.batches) / settings.accumulate)  # of the optimiser, an epoch
        self.total_steps = self.steps * settings.epochs
        self.warmup = round(settings.warmup * self.total_steps)

        set_seed(seed)
        if state.begun():
            self.model, self.base = rebuild(task, state.base, source / STATE)
            load_trained(self.model, self.base, state.model, state.base, source / STATE)
        else:
            self.model, self.base = task.build_model()
        if settings.gradient_checkpointing:
            checkpoint_gradients(self.model)
        self.parameters = count_parameters(self.model)
        self.objective = task.objective(report).to(accelerator.device)
        self.optimizer = optimizer_for(self.model, settings)
        factor = warmup_cosine(self.warmup, self.total_steps)
        # Of the steps or of train.max_minutes, whichever is further on.
        self.scheduler = LambdaLR(self.optimizer, lambda step: factor(max(step, self.spent() * self.total_steps)))
        if settings.cache_features:
            with mendable_errors(settings):
                self.model = with_features(
                    self.model,
                    self.training,
                    self.validation,
                    accelerator,
                    root=cache_folder(settings.cache_dir),
                    dtype=settings.cache_dtype,
                    precision=settings.precision,
                    batch_size=settings.batch_size,
                    workers=settings.workers,
                )
        self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        if state.begun():
            self._restore()

    def _restore(self) -> None:
        state, accelerator = self.state, self.accelerator
        dcp.set_optimizer_state_dict(self.model, self.optimizer.optimizer, state.optimizer, options=WHOLE)
        self.scheduler.load_state_dict(state.scheduler)
        if state.total_steps != self.total_steps:  # other processes make other steps: the same share of them is done
            self.scheduler.last_epoch = round(self.scheduler.last_epoch * self.total_steps / state.total_steps)
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state.scaler)

    def spent(self) -> float:
        """The share of `train.max_minutes` that is used up; 0 where there is no such limit."""
        minutes = self.settings.max_minutes
        return 0.0 if minutes is None else self.state.seconds() / (60 * minutes)

    def summary(self) -> str:
        """What trains, on what, and for how long."""
        processes = f" on each of {self.processes} processes" if self.processes > 1 else ""
        minutes, epochs = self.settings.max_minutes, in_epochs(self.settings.epochs)
        if minutes is not None:
            epochs = f"{minutes:g} minutes, {'epochs' if self.settings.epochs == MOST else f'at most {epochs}'}"
        lines = [
            self.parameters,
            f"{epochs} of {self.steps} steps, the first {100 * self.settings.warmup:.3g} % "
            f"to warm up; {self.settings.precision} on {self.accelerator.device}{processes}",
        ]
        if self.settings.layer_decay != 1:
            rate, share = self.settings.encoder_lr, self.settings.layer_decay
            lines.append(f"the encoder's top learns at {rate:.2g}, each layer below at {share:g} of the rate above it")
        if self.task.model.weights is None and self.task.model.freeze_encoder:
            lines.append(
                "WARNING: the encoder's weights are random and frozen, so it will never see anything: give "
                "model.weights, or let it learn with model.freeze_encoder=false"
            )
        if self.settings.batch_size == 1 and learns_statistics(self.model):
            lines.append(
                "WARNING: train.batch_size is 1: batch normalisation learns on single images' statistics and predicts "
                "with the average of all, which can be far from each: set 2 or more (train.accumulate does not help)"
            )
        before = self.state.images_a_step
        if self.state.begun() and before != self._images_a_step():
            lines.append(
                f"WARNING: {self._images_a_step()} images a step where the run had {before}, because it is now on "
                f"{self.processes} process(es); the learning rate stays"
            )
        return "\n".join(lines)

    def save_samples(self, path: Path) -> bool:
        """Draw the first samples of the next epoch; False for a task that draws none."""
        self.training.set_epoch(self.state.epoch + 1)
        picture = self.task.samples(self.training)
        if picture is not None:
            save_picture(path, picture)
        return picture is not None

    def _images_a_step(self) -> int:
        return self.settings.batch_size * self.settings.accumulate * self.processes

    def run(self, folder: Path, stop: StopRequest, tracking: Tracking) -> None:
        """Train, validate and save epoch after epoch until the state is finished; the last curves are not drawn.

        Raises Terminated when any process was asked to ``stop``, with the state of that moment saved.
        """
        state, settings, task, main = self.state, self.settings, self.task, self.accelerator.is_main_process
        left = math.inf if settings.max_minutes is None else 60 * settings.max_minutes - state.seconds()
        progress = Progress(self.batches.used(), settings.epochs - state.epoch, left, main)
        drawn = time.monotonic()
        while not state.finished(settings.epochs, settings.patience, settings.max_minutes):
            epoch, started = state.epoch + 1, time.monotonic() - state.part["seconds"]
            loss = self.train_epoch(epoch, folder, stop, progress)
            metrics = self.validate(stop)
            self._stop_if_asked(folder, stop)
            figures = metrics.compute()
            row = {"epoch": epoch, "loss": loss, "lr": max(self.scheduler.get_last_lr())}
            row |= {column: figures[name] for column, name in task.columns.items()}
            row |= {"seconds": round(largest_of_processes(self.accelerator, time.monotonic() - started), 2)}
            state.add_epoch(row, figures, task.better(figures, state.best))
            if state.improved():
                # Pictures and tracking come before the state: an epoch that is run again draws them again.
                self._show(folder, figures, metrics.details())
                tracking.picture(folder / PICTURES, epoch)
            values = {f"run/{column}": value for column, value in row.items() if column != "epoch"}
            tracking.log(values | task.scalars(figures), epoch)
            self._save(folder)
            if main:
                state.write_results(folder)
                # Drawing takes a quarter of a second, which may be as long as a small run's epoch.
                if time.monotonic() - drawn > CURVES_SECONDS:
                    draw_curves(state.history, task, folder / CURVES)
                    drawn = time.monotonic()
            self.accelerator.print(epoch_line(row, figures, state, task, settings))

    def _show(self, folder: Path, figures: Figures, details: Details) -> None:
        """Write the pictures of the validation images, and their figures for the report."""
        with whole_on_each(self.accelerator, self.model) as network:
            if self.accelerator.is_main_process:
                save_picture(folder / PICTURES, self.task.picture(network, self.validation))
                examples = self.task.reporter().examples(network, self.validation, details)
                save_split(folder, "val", figures, details, examples)

    def begin(self, epoch: int, done: int = 0) -> None:
        """Let `loader` give an epoch's batches from here on, behind the images that are ``done``."""
        self.training.set_epoch(epoch)
        self.batches.set_epoch(epoch, done)
        self.model.train()

    def train_epoch(self, epoch: int, folder: Path, stop: StopRequest, progress: Progress) -> float:
        """Finish a pass over the training images, or the time; returns the mean loss of all its steps."""
        accelerator, settings, part = self.accelerator, self.settings, self.state.part
        self.begin(epoch, part["images"])
        started, before = time.monotonic(), part["seconds"]
        saved = before
        batches = iter(self.loader)
        with progress.bar(f"epoch {epoch}/{settings.epochs}", part["images"]):
            while self.spent() < 1 and (step := list(islice(batches, settings.accumulate))):
                loss = self.step(step, epoch, part["steps"])
                images = len(step) * settings.batch_size * self.processes
                part["images"] = min(part["images"] + images, self.batches.used())
                part["steps"] += 1
                part["loss"] += loss
                part["seconds"] = largest_of_processes(accelerator, before + time.monotonic() - started)
                progress.step(images, loss)
                self._stop_if_asked(folder, stop)
                if part["seconds"] - saved > 60 * SAVE_MINUTES:
                    self._save(folder)
                    saved = part["seconds"]
        return part["loss"] / part["steps"]

    def step(self, batches: list[dict], epoch: int, number: int) -> float:
        """Step ``number`` of an epoch: ``train.accumulate`` batches (fewer at the end) on every process; the loss.

        The gradients are those of one large batch, for the mean over pixels is taken over all of them together:
        accelerate's own accumulation would give a batch with few labelled pixels the say of a full one.
        """
        accelerator, settings = self.accelerator, self.settings
        torch.manual_seed(epoch_seed(self.seed, epoch, self.rank, number))
        loss = self._accumulate(send_to_device(batches, accelerator.device, non_blocking=True))
        check_finite(loss, epoch, number + 1, settings)
        accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not accelerator.optimizer_step_was_skipped:  # fp16 skips a step whose gradients overflow
            self.scheduler.step()
        return loss

    def _stop_if_asked(self, folder: Path, stop: StopRequest) -> None:
        if any(any_process(self.accelerator, stop())):
            self._save(folder)
            where = self.state.position()
            raise Terminated(f"stopped by SIGTERM after {where}; the same command with train.resume=true goes on there")

    def _accumulate(self, step: list[dict]) -> float:
        """Add up the gradients of a step's batches; returns the loss of the step over all processes."""
        # The mean over processes, not the sum: DDP averages the gradients that are to be added up.
        weight = self.accelerator.reduce(sum(self.objective.weight(batch) for batch in step), "mean")
        total = torch.zeros((), device=self.accelerator.device)
        for number, batch in enumerate(step, start=1):
            last = number == len(step)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with auxiliary_losses() as auxiliary:
                    outputs = self.model(self.task.inputs(batch))
                loss = self.objective(outputs, batch, weight, batches=len(step))
                loss = loss + sum(auxiliary) / len(step)  # no sums over labels: averaged over the batches
                self.accelerator.backward(loss)
            total += loss.detach()
        return self.accelerator.reduce(total, "mean").item()

    def validate(self, stop: StopRequest) -> Metrics:
        """The counts over the validation images."""
        with whole_on_each(self.accelerator, self.model) as network:
            return evaluate(
                network,
                self.validation,
                self.task,
                self.accelerator.device,
                workers=self.settings.workers,
                rank=self.rank,
                processes=self.processes,
                title="validation",
                stopped=stop,
            )

    def _save(self, folder: Path) -> None:
        """Put what `_restore` needs into the state, gathered from all processes, and write it."""
        state, scaler = self.state, self.accelerator.scaler
        state.model = trained_part(dcp.get_model_state_dict(self.model, options=WHOLE), self.base)
        state.optimizer = dcp.get_optimizer_state_dict(self.model, self.optimizer.optimizer, options=WHOLE)
        state.base = self.base.metadata() if self.base else {}
        state.images_a_step, state.total_steps = self._images_a_step(), self.total_steps
        state.scheduler = self.scheduler.state_dict()
        state.scaler = None if scaler is None else scaler.state_dict()
        if self.accelerator.is_main_process:
            state.save(folder)
