"""The training run: from a configuration to a run folder."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, send_to_device, set_seed
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from samseg.adapters.auxiliary import auxiliary_losses
from samseg.checkpoint import WEIGHTS
from samseg.config import RunConfig
from samseg.data.check import Report, check_dataset
from samseg.data.dataset import SegmentationDataset
from samseg.errors import InputError
from samseg.model import build_model
from samseg.trainable import checkpoint_gradients, count_parameters, parameter_groups
from samseg.training.batches import EpochBatches, epoch_seed
from samseg.training.evaluation import evaluate
from samseg.training.failures import check_finite, explained
from samseg.training.features import with_features
from samseg.training.folder import discard_unless_begun, earlier_run, new_run
from samseg.training.losses import SegmentationLoss
from samseg.training.metrics import table
from samseg.training.processes import accelerator_for
from samseg.training.progress import Progress
from samseg.training.report import CURVES, PICTURES, Events, draw_curves, draw_predictions
from samseg.training.state import RunState, load_state


def train(config: RunConfig, name: str) -> Path:
    """Train what ``config`` says, or go on with it, and return the run folder.

    ``name`` names the run under ``runs/`` when ``config.run_dir`` does not. The folder is made only after the data and
    the model have proved sound. InputError, in one line, for everything the user can mend.
    """
    accelerator = accelerator_for(config.train)
    folder = earlier_run(config, name)
    state = (load_state(folder) if folder else None) or RunState()
    if state.epoch and accelerator.is_main_process:
        _write_results(state, folder)  # a kill may have come between the state and them
    if state.finished(config.train.epochs, config.train.patience):
        _finish(accelerator, state, folder, f"{folder} is finished already, after {state.epoch} epochs")
        return folder
    if config.train.resume:
        accelerator.print(f"going on after epoch {state.epoch}" if state.epoch else "nothing to resume: starting anew")

    report = check_dataset(config.data.root, ("train", "val"), config.data)
    accelerator.print(report)
    trainer = Trainer(config, accelerator, report, state)
    accelerator.print(trainer.summary())
    accelerator.wait_for_everyone()
    if folder is None:
        [folder] = broadcast_object_list([new_run(config, name) if accelerator.is_main_process else None])
    try:
        with explained(config.train):
            trainer.run(folder)
    except InputError:
        if accelerator.is_main_process:
            discard_unless_begun(folder)
        raise
    except KeyboardInterrupt:
        accelerator.print(f"\nstopped in epoch {state.epoch + 1}; the same command with train.resume=true goes on")
        raise
    early = " (stopped early: no better mIoU)" if state.epoch < config.train.epochs else ""
    _finish(accelerator, state, folder, f"finished after {state.epoch} epochs{early}")
    accelerator.end_training()
    return folder


class Trainer:
    """Model, data and optimiser of one run, as far as ``state`` says they have come; `run` takes them to the end."""

    def __init__(self, config: RunConfig, accelerator: Accelerator, report: Report, state: RunState):
        self.config, self.settings, self.accelerator, self.state = config, config.train, accelerator, state
        data, settings = config.data, config.train
        self.training = SegmentationDataset(data.root, "train", data, train=True, seed=config.seed)
        self.validation = SegmentationDataset(data.root, "val", data, train=False, seed=config.seed)
        self.rank, self.processes = accelerator.process_index, accelerator.num_processes
        images = len(self.training)
        self.batches = EpochBatches(images, settings.batch_size, config.seed, self.rank, self.processes)
        self.loader = DataLoader(
            self.training,
            batch_sampler=self.batches,
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            pin_memory=accelerator.device.type == "cuda",
        )
        self.steps = math.ceil(len(self.batches) / settings.accumulate)  # of the optimiser, an epoch
        total = self.steps * settings.epochs
        self.warmup = round(settings.warmup * total)

        set_seed(config.seed)
        self.model = build_model(config.model, classes=len(self.training.classes), pretrained=not state.epoch)
        if settings.gradient_checkpointing:
            checkpoint_gradients(self.model)
        self.parameters = count_parameters(self.model)
        self.loss = SegmentationLoss(settings.loss, self.training.classes, report.class_pixels("train"))
        self.loss.to(accelerator.device)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, settings), lr=settings.lr)
        self.scheduler = LambdaLR(self.optimizer, warmup_cosine(self.warmup, total))
        self._restore()

    def _restore(self) -> None:
        state, accelerator = self.state, self.accelerator
        if state.epoch:
            self.model.load_state_dict(state.model)
        if self.settings.cache_features:
            self.model = with_features(self.model, self.training, self.validation, self.config, accelerator)
        self.model, self.optimizer = accelerator.prepare(self.model, self.optimizer)
        if state.epoch:
            self.optimizer.load_state_dict(state.optimizer)
            self.scheduler.load_state_dict(state.scheduler)
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(state.scaler)

    def summary(self) -> str:
        """What trains, on what, and for how long."""
        processes = f" on each of {self.processes} processes" if self.processes > 1 else ""
        return (
            f"{self.parameters}\n{self.settings.epochs} epochs of {self.steps} steps, the first {self.warmup} steps to "
            f"warm up; {self.settings.precision} on {self.accelerator.device}{processes}"
        )

    def run(self, folder: Path) -> None:
        """Train, validate and write down epoch after epoch until the state is finished."""
        state, settings, main = self.state, self.settings, self.accelerator.is_main_process
        events = Events(folder, state.epoch) if main else None
        self.progress = Progress(self.batches.used(), settings.epochs - state.epoch, main)
        while not state.finished(settings.epochs, settings.patience):
            epoch, started = state.epoch + 1, time.monotonic()
            loss = self.train_epoch(epoch)
            metrics = self.validate()
            row = {"epoch": epoch, "loss": loss, "lr": max(self.scheduler.get_last_lr())}
            row |= {"val_miou": metrics["miou"], "val_accuracy": metrics["accuracy"]}
            row |= {"seconds": round(time.monotonic() - started, 2)}
            state.add_epoch(row, metrics)
            self._capture()
            if main:
                # Pictures and events come before the state: an epoch that is run again draws them again.
                if state.improved():
                    network = self.accelerator.unwrap_model(self.model)
                    draw_predictions(network, self.validation, self.config.data, folder / PICTURES)
                events.add(row, metrics)
                state.save(folder)
                _write_results(state, folder)
            self.accelerator.print(_line(row, state, settings.epochs))

    def train_epoch(self, epoch: int) -> float:
        """One pass over the training images; returns the mean loss of its steps.

        A step is ``train.accumulate`` batches (fewer at the end) on every process. Its gradients are those of one large
        batch, for the mean over pixels is taken over all of them together: accelerate's own accumulation would give a
        batch with few labelled pixels the say of a full one.
        """
        accelerator, settings = self.accelerator, self.settings
        torch.manual_seed(epoch_seed(self.config.seed, epoch, self.rank))
        self.training.set_epoch(epoch)
        self.batches.set_epoch(epoch)
        self.model.train()
        losses = []
        batches = iter(self.loader)
        with self.progress.bar(f"epoch {epoch}/{settings.epochs}"):
            while step := list(islice(batches, settings.accumulate)):
                losses.append(self._accumulate(send_to_device(step, accelerator.device, non_blocking=True)))
                check_finite(losses[-1], epoch, len(losses), settings)
                accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
                if not accelerator.optimizer_step_was_skipped:  # fp16 skips a step whose gradients overflow
                    self.scheduler.step()
                self.progress.step(sum(len(batch["mask"]) for batch in step) * self.processes, losses[-1])
        return sum(losses) / len(losses)

    def _accumulate(self, step: list[dict]) -> float:
        """Add up the gradients of a step's batches; returns the loss of the step over all processes."""
        # The mean over processes, not the sum: DDP averages the gradients that are to be added up.
        weight = self.accelerator.reduce(sum(self.loss.pixel_weight(batch["mask"]) for batch in step), "mean")
        total = torch.zeros((), device=self.accelerator.device)
        for number, batch in enumerate(step, start=1):
            last = number == len(step)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                given = batch["taps"] if self.settings.cache_features else batch["image"]
                with auxiliary_losses() as auxiliary:
                    logits = self.model(given)
                loss = self.loss(logits, batch["mask"], weight, batches=len(step))
                loss = loss + sum(auxiliary) / len(step)  # no sums over pixels either: averaged as Dice is
                self.accelerator.backward(loss)
            total += loss.detach()
        return self.accelerator.reduce(total, "mean").item()

    def validate(self) -> dict:
        """The metrics on the validation images, the same on every process."""
        return evaluate(
            self.accelerator.unwrap_model(self.model),
            self.validation,
            self.config.data,
            self.accelerator.device,
            workers=self.settings.workers,
            rank=self.rank,
            processes=self.processes,
            title="validation",
        )

    def _capture(self) -> None:
        """Put what `_restore` needs into the state."""
        state, scaler = self.state, self.accelerator.scaler
        state.model = self.accelerator.get_state_dict(self.model)
        state.optimizer, state.scheduler = self.optimizer.state_dict(), self.scheduler.state_dict()
        state.scaler = None if scaler is None else scaler.state_dict()


def warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """The learning rate's factor at a step: up in a line to 1 over ``warmup_steps``, then down a cosine to 0."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps))) / 2

    return factor


def _write_results(state: RunState, folder: Path) -> None:
    state.write_results(folder)
    draw_curves(state.history, folder / CURVES)


def _line(row: dict, state: RunState, epochs: int) -> str:
    miou, best = (f"{value:.4f}" if value is not None else "-" for value in (row["val_miou"], state.best["miou"]))
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  val mIoU {miou}  "
        f"best {best} (epoch {state.best_epoch})  lr {row['lr']:.1e}  {row['seconds']:.1f} s"
    )


def _finish(accelerator: Accelerator, state: RunState, folder: Path, title: str) -> None:
    """Say what came out, where it lies, and what comes next."""
    accelerator.print(
        f"{title}; the best is epoch {state.best_epoch}, on the validation images:\n{table(state.best)}\n"
        f"weights: {folder / WEIGHTS}; curves: {folder / CURVES}; pictures: {folder / PICTURES}\n"
        f"next: python tools/evaluate.py {folder}, python tools/infer.py {folder} IMAGE ..."
    )
