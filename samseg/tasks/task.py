"""The contract of a task: what is learnt, and how it is scored."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from samseg.common.errors import InputError
from samseg.data.config import DataConfig
from samseg.models.build import Built
from samseg.models.config import ModelConfig
from samseg.tasks.matching import OBJECTS, section
from samseg.tasks.sections import Gallery, Section, Table, Text

Details = dict[str, np.ndarray]  # counts by image, for a report
Figures = dict[str, Any]  # a split's figures by name: numbers, None where one does not exist, or such by class name


class Objective(nn.Module):
    """The loss that training minimises.

    A step may be several batches on several processes. Each batch's loss is given the ``weight`` of the whole step and
    the number of its ``batches``, so that the losses add up to what one large batch would give.
    """

    def weight(self, batch: dict) -> Tensor:
        """The weight of a batch in its step, a scalar: its labelled pixels, say."""
        raise NotImplementedError

    def forward(self, outputs: Any, batch: dict, weight: Tensor, batches: int) -> Tensor:
        """The loss of the network's ``outputs`` for ``batch``, a scalar."""
        raise NotImplementedError


class Metrics(nn.Module):
    """Counts over a split, on the device of the network and on every process; `compute` makes figures of them.

    On several processes each counts its own images, and `compute` gives all of them the figures of the whole.
    """

    def compute(self) -> Figures:
        raise NotImplementedError

    def details(self) -> Details:
        """What a report shows beside the figures, of all processes' images; every process has to call this."""
        return {}


def from_all_processes(value: Any) -> list[Any]:
    """Collect the ``value`` of each process, by rank; every process has to call this."""
    values = [value]
    if dist.is_initialized():
        values = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
    return values


def interleaved(shares: list[list[Any]]) -> list[Any]:
    """One list of the shares of processes of which each takes the next item in turn."""
    longest = max(map(len, shares))
    return [share[i] for i in range(longest) for share in shares if i < len(share)]


class Reporter:
    """The sections of a task in a run's report. This one has those that every task has: its figures as a table.

    Sections of results are made of figures and details alone, so that a report can be written where neither the data
    nor the model is; examples are drawn while both are there, and kept.
    """

    def __init__(self, task: "Task"):
        self.task = task

    def data(self, report: Any) -> Table | Text:
        """A section about the training data, from the ``report`` of `Task.check`."""
        return Text("Data", str(report))

    def examples(self, model: nn.Module, dataset: Dataset, details: Details) -> Gallery | None:
        """Items of an evaluation data set that are worth a look, with what the network makes of them."""
        return None

    def results(self, figures: Figures, details: Details) -> list[Section]:
        """Sections about the results on the split of ``figures``."""
        return [Text("Results", self.task.table(figures))]

    def objects(self, figures: Figures) -> list[Section]:
        """Sections about objects, where evaluation scored them."""
        return [section(figures[OBJECTS])] if OBJECTS in figures else []

    def score_draws(self, details: Details) -> np.ndarray | None:
        """The task's score in each of the bootstrap's draws of images (RESAMPLES,); None where images are not counted.

        The draws are the same for all runs on the same images.
        """
        return None

    def side_by_side(
        self, networks: Iterable[tuple[str, "Task", nn.Module]], split: str, runs: dict[str, Details]
    ) -> Gallery | None:
        """The same items of a split as several networks see them, each with its name and task, ordered as ``runs``."""
        return None

    def comparison(self, runs: dict[str, Details]) -> list[Section]:
        """How runs differ on a split, by their names; the first is the one that the others are compared with."""
        return []


class Task(ABC):
    """What is learnt and how it is scored, which trainer, state, report and evaluation do not know.

    Items of `dataset` are dicts. The loader makes batches of training items; evaluation takes its items one by one, for
    each image has its own size.

    Attributes:
        section: where the task's own settings stand in a configuration, dotted; None: it has none.
        score: the figure that picks the best epoch.
        score_name: what a reader calls it.
        higher_is_better: the score's direction.
        columns: the figures that stand in the history, by the column's name; all are drawn as curves.
        resizes_as_taught: images are squashed if the encoder's were, where data.resize is left out.
        labels: what a reader calls these columns in the curves' legend.
    """

    section: ClassVar[str | None] = None
    score: ClassVar[str]
    score_name: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    columns: ClassVar[dict[str, str]]
    labels: ClassVar[dict[str, str]]
    resizes_as_taught: ClassVar[bool] = False

    def __init__(self, data: DataConfig, model: ModelConfig, settings: Any = None):
        self.data, self.model, self.settings = data, model, settings
        self.preprocessing = data.preprocessing

    @classmethod
    @abstractmethod
    def complete(cls, data: DataConfig, model: ModelConfig, settings: Any) -> None:
        """Check what the task needs of a configuration and fill in, in place, what is left out; ConfigError."""

    @abstractmethod
    def check(self, splits: Iterable[str]) -> Any:
        """Look at every file of ``splits``; InputError for what cannot be used.

        Returns a report: ``str(report)`` is shown, ``report.images(split)`` counts, ``report.contents`` maps
        "SPLIT/NAME" to a digest of the image and what is learnt of it, `objective` is given it.
        """

    @abstractmethod
    def dataset(self, split: str, *, train: bool, seed: int) -> Dataset:
        """The items of a split, for training or for evaluation."""

    @abstractmethod
    def build_model(self, pretrained: bool = True) -> Built:
        """The network, and the base it stands on; ``pretrained=False`` leaves all of it random."""

    @abstractmethod
    def objective(self, report: Any) -> Objective:
        """The loss, for the training data that ``report`` is of."""

    @abstractmethod
    def inputs(self, batch: dict) -> Any:
        """The part of a training batch that the network is called with."""

    @abstractmethod
    def random_batch(self, size: int, device: torch.device) -> dict:
        """A training batch of ``size`` random images, as large as real ones are: to try what a step takes."""

    @abstractmethod
    def metrics(self) -> Metrics:
        """Empty counts."""

    @abstractmethod
    def measure(
        self, metrics: Metrics, model: nn.Module, item: dict, device: torch.device, autocast: torch.dtype | None = None
    ) -> np.ndarray | None:
        """Predict an evaluation item as inference does, and count it in ``metrics``.

        Returns the classes (H, W) uint8 that were predicted, for whatever else is scored; None: the task gives none.
        """

    @abstractmethod
    def table(self, figures: Figures) -> str:
        """The figures as text, for people."""

    @abstractmethod
    def scalars(self, figures: Figures) -> dict[str, float | None]:
        """The figures worth a curve of their own beside `columns`, by name."""

    @abstractmethod
    def picture(self, model: nn.Module, dataset: Dataset) -> np.ndarray:
        """Some items of an evaluation data set beside what the network makes of them, (H, W, 3) uint8."""

    def use_tta(self, tta: str) -> None:
        """Average over flips and turns in evaluation from here on (`samseg.predict.tta`); InputError if it cannot."""
        raise InputError("--tta averages the probabilities of classes, and this run's task gives none: leave it out")

    def samples(self, dataset: Dataset) -> np.ndarray | None:
        """Some items of a training data set beside what is to be learnt of them, (H, W, 3) uint8; None: no picture."""
        return None

    def reporter(self) -> Reporter:
        """The task's sections in a report."""
        return Reporter(self)

    def better(self, figures: Figures, best: Figures) -> bool:
        """Whether ``figures`` beat the ``best`` so far; anything beats nothing, and nothing beats no figure at all.

        A split with nothing to count has no score: then the latest epoch is as good as any.
        """
        now, before = figures.get(self.score), best.get(self.score)
        if now is None or before is None:
            return before is None
        return now > before if self.higher_is_better else now < before
