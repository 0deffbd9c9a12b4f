"""The state of a run after a step, saved so that a kill at any moment loses nothing before it."""

import csv
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

from samseg.common.errors import ConfigError, InputError, WeightsError
from samseg.common.files import write_json, written_whole
from samseg.common.value_types import fits
from samseg.encoders.weights import not_finite, read_torch
from samseg.runs.folder import HISTORY, METRICS, STATE, WEIGHTS, check_config
from samseg.runs.seal import broken, sealed
from samseg.runs.tensors import CONFIG_ENTRY, save_weights

NAMED = 3  # images that an error names
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
    base: dict = field(default_factory=dict)  # `samseg.models.pretrained.Base.metadata`; empty if the model is whole
    images_a_step: int = 0  # of the optimiser, over all processes
    total_steps: int = 0  # of the optimiser, in the whole run
    optimizer: dict = field(default_factory=dict)
    scheduler: dict = field(default_factory=dict)
    scaler: dict | None = None  # of the loss, in fp16
    config: str = ""  # the run's config.yaml, as it was
    trackers: dict = field(default_factory=dict)  # what each tracker has the run as, by its name
    data: dict = field(default_factory=dict)  # the digest of each image and its labels, by split and name

    def begun(self) -> bool:
        return self.epoch > 0 or self.part["steps"] > 0

    def position(self) -> str:
        steps = self.part["steps"]
        return f"epoch {self.epoch}" + (f" and {steps} steps of the next" if steps else "")

    def changed_data(self, now: dict[str, str]) -> str:
        """How the data of ``now`` differ from those before, with some names; "" if they do not.

        As in states of older versions, which keep nothing of their data.
        """
        before = self.data
        if not before or now == before:
            return ""
        kinds = {
            "gone": before.keys() - now.keys(),
            "new": now.keys() - before.keys(),
            "changed": {name for name in before.keys() & now.keys() if before[name] != now[name]},
        }
        return ", ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names)

    def improved(self) -> bool:
        return self.best_epoch == self.epoch

    def add_epoch(self, row: dict, figures: dict, better: bool) -> None:
        """Count one more epoch: its ``row`` of the history, its validation ``figures``, whether they are the best."""
        self.epoch, self.part = row["epoch"], dict(START)
        self.history.append(row)
        if better:
            self.best_epoch, self.best = self.epoch, figures

    def seconds(self) -> float:
        """Seconds of its epochs so far, validation and the part of the next one included."""
        return sum(row["seconds"] for row in self.history) + self.part["seconds"]

    def finished(self, epochs: int, patience: int | None, minutes: float | None) -> bool:
        """Whether all ``epochs`` or ``minutes`` are done, or the last ``patience`` epochs brought no better score."""
        if self.epoch >= epochs or (patience is not None and self.epoch - self.best_epoch >= patience):
            return True
        # What a part of an epoch has learnt is still to be validated, however late it is.
        return minutes is not None and self.part["steps"] == 0 and self.seconds() >= 60 * minutes

    def save(self, folder: Path) -> None:
        """Write the state; ConfigError, and the one before stays, when a weight is no longer a number."""
        if bad := not_finite(self.model):
            raise ConfigError(f"the weights hold NaN or infinity after {self.position()}, in {bad}: lower train.lr")
        with written_whole(folder / STATE) as temporary, sealed(temporary) as sink:
            torch.save(vars(self), sink)

    def write_results(self, folder: Path) -> None:
        """Write what others read: history, metrics and, when this epoch is the best so far, the weights.

        At an epoch's end, that is: in the middle of the next one they are written already, and the model has moved on.
        """
        if self.part["steps"] > 0:
            return
        if self.improved():
            save_weights(self.model, folder / WEIGHTS, self.base | {CONFIG_ENTRY: self.config})
        write_json({"val": self.best, "epoch": self.best_epoch}, folder / METRICS)
        write_rows(self.history, folder / HISTORY)


def load_state(folder: Path) -> RunState | None:
    """The state in a run folder; None before the first is saved.

    InputError when it is not what was written (states of older versions carry no digest), or config.yaml is not the one
    it goes with. No code in the file is run.
    """
    path = folder / STATE
    if not path.exists():
        return None
    damaged = "the run cannot be resumed; copy the file again, or start a new run"
    try:
        if broken(path):
            raise InputError(f"{path} is not what was written, its sha256 is another: {damaged}")
        content = read_torch(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except WeightsError as error:
        raise InputError(f"{error}: {damaged}") from None
    if wrong := _misfit(content):
        raise InputError(f"{path} is no state of a run ({wrong}): {damaged}")
    state = RunState(**content)
    if bad := not_finite(state.model):
        raise InputError(f"{path} holds NaN or infinity in {bad}: {damaged}")
    check_config(folder, state.config, path)
    return state


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:NAMED]) + (" ..." if len(names) > NAMED else "")


def _misfit(content: object) -> str | None:
    """The reason why a file's content is no `RunState`; None if it is one."""
    kinds = {item.name: item.type for item in fields(RunState)}
    if not isinstance(content, dict) or not content.keys() <= kinds.keys():
        return "it holds something else"
    for name, value in content.items():
        if not fits(value, kinds[name]):
            return f"{name} is a {type(value).__name__}"
    state = RunState(**content)
    if state.part.keys() != START.keys() or not all(isinstance(value, (int, float)) for value in state.part.values()):
        return "its part of an epoch is not counted"
    if not all(isinstance(value, Tensor) for value in state.model.values()):
        return "its model holds other things than tensors"
    if len(state.history) != state.epoch:
        return "its history is not that of its epochs"
    return None


def write_rows(rows: list[dict], path: Path) -> None:
    """Write ``rows`` of the same keys as CSV."""
    with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
