"""What a run is after a step, and how it outlives a kill at any moment."""

import csv
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import torch

from samseg.runs.folder import HISTORY, METRICS, STATE, WEIGHTS
from samseg.runs.tensors import save_weights
from samseg.errors import InputError
from samseg.files import written_whole

START = {"images": 0, "steps": 0, "loss": 0.0, "seconds": 0.0}  # in an epoch; the loss is the sum of its steps'


@dataclass
class RunState:
    """The run after ``epoch`` epochs and perhaps a part of the next. ``state.pt`` holds all of it: it is the one truth.

    Every other file of the run folder follows from it. It is written first, then they are (`write_results`), and on
    resuming they are written again: a kill between the writes leaves nothing that disagrees. No random state is kept,
    for each epoch and each step draws from its own seed.
    """

    epoch: int = 0
    part: dict = field(default_factory=lambda: dict(START))  # of the epoch after that
    best_epoch: int = 0
    best: dict = field(default_factory=dict)  # the figures of the best epoch
    history: list[dict] = field(default_factory=list)  # a row per epoch
    model: dict = field(default_factory=dict)  # without its base
    base: dict = field(default_factory=dict)  # the metadata of `samseg.models.pretrained.Base`; empty if the model is all there
    images_a_step: int = 0  # of the optimiser, over all processes
    total_steps: int = 0  # of the optimiser, in the whole run
    optimizer: dict = field(default_factory=dict)
    scheduler: dict = field(default_factory=dict)
    scaler: dict | None = None  # of the loss, in fp16

    def begun(self) -> bool:
        return self.epoch > 0 or self.part["steps"] > 0

    def position(self) -> str:
        steps = self.part["steps"]
        return f"epoch {self.epoch}" + (f" and {steps} steps of the next" if steps else "")

    def improved(self) -> bool:
        return self.best_epoch == self.epoch

    def add_epoch(self, row: dict, figures: dict, better: bool) -> None:
        """Count one more epoch: its ``row`` of the history, its validation ``figures``, and whether they are the best."""
        self.epoch, self.part = row["epoch"], dict(START)
        self.history.append(row)
        if better:
            self.best_epoch, self.best = self.epoch, figures

    def finished(self, epochs: int, patience: int | None) -> bool:
        """Whether all ``epochs`` are done, or the last ``patience`` of them brought no better score."""
        return self.epoch >= epochs or (patience is not None and self.epoch - self.best_epoch >= patience)

    def save(self, folder: Path) -> None:
        with written_whole(folder / STATE) as temporary:
            torch.save(vars(self), temporary)

    def write_results(self, folder: Path) -> None:
        """Write what others read: history, metrics and, when this epoch is the best so far, the weights.

        At an epoch's end, that is: in the middle of the next one they are written already, and the model has moved on.
        """
        if self.part["steps"] > 0:
            return
        if self.improved():
            save_weights(self.model, folder / WEIGHTS, self.base)
        write_json({"val": self.best, "epoch": self.best_epoch}, folder / METRICS)
        with written_whole(folder / HISTORY) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.history[0]))
            writer.writeheader()
            writer.writerows(self.history)


def load_state(folder: Path) -> RunState | None:
    """The state in a run folder; None before the first epoch's end. InputError when it is damaged."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return RunState(**torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}): the run cannot be resumed; start a new one") from None


def write_json(content: dict, path: Path) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
