"""The course of a run: a bar and a line an epoch, and curves."""

import time
from io import BytesIO
from pathlib import Path

import numpy as np
from tqdm import tqdm

from samseg.common.files import write_bytes
from samseg.runs.config.schema import TrainConfig
from samseg.runs.state import RunState
from samseg.tasks import Task
from samseg.tasks.task import Figures


class Progress:
    """Bars over the epochs of a run, on a terminal only; elsewhere the line per epoch has to do.

    Args:
        images: images an epoch, over all processes.
        epochs_left: epochs still to be run, if none of them stops it early.
        seconds_left: the time that the run has left at most.
        shown: False on all processes but the main one.
    """

    def __init__(self, images: int, epochs_left: int, seconds_left: float, shown: bool):
        self.images, self.left, self.seconds_left, self.shown = images, images * epochs_left, seconds_left, shown
        self.started, self.done = time.monotonic(), 0

    def bar(self, title: str, done: int) -> tqdm:
        """Start an epoch's bar behind the images that are ``done``; to be used as a context, which takes it away."""
        self.current = tqdm(
            total=self.images, initial=done, desc=title, unit="image", leave=False, disable=None if self.shown else True
        )
        self.left_of_epoch = self.images - done
        self.left -= done
        return self.current

    def step(self, images: int, loss: float) -> None:
        """Count a step of about ``images`` and show its ``loss``.

        The time left of the run goes by the time of all its images so far, validation included.
        """
        images = min(images, self.left_of_epoch)  # processes share a short last step unevenly
        self.left_of_epoch -= images
        self.left -= images
        self.done += images
        elapsed = time.monotonic() - self.started
        run_left = max(0, min(elapsed / self.done * self.left, self.seconds_left - elapsed))
        self.current.set_postfix_str(f"loss {loss:.4f}, run {tqdm.format_interval(run_left)} left", refresh=False)
        self.current.update(images)


def in_epochs(number: int) -> str:
    """ "1 epoch", "2 epochs"."""
    return f"{number} epoch{'' if number == 1 else 's'}"


def epoch_line(row: dict, figures: Figures, state: RunState, task: Task, train: TrainConfig) -> str:
    """The line about an epoch, of its ``row`` of the history and its ``figures``."""
    scores = (figures[task.score], state.best[task.score])
    score, best = (f"{value:.4f}" if value is not None else "-" for value in scores)
    if train.max_minutes is None:
        limit = f"epoch {row['epoch']:>{len(str(train.epochs))}}/{train.epochs}"
    else:
        limit = f"epoch {row['epoch']}, {state.seconds() / 60:.1f} of {train.max_minutes:g} min"
    return (
        f"{limit}  loss {row['loss']:.4f}  val {task.score_name} {score}  "
        f"best {best} (epoch {state.best_epoch})  lr {row['lr']:.1e}  {row['seconds']:.1f} s"
    )


def draw_curves(history: list[dict], task: Task, path: Path) -> None:
    """Write the loss, the task's validation figures and the learning rate of a run's ``history`` over its epochs."""
    from matplotlib.figure import Figure  # a second to import, and only the trainer draws
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(12, 3.6))
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.14, top=0.87, wspace=0.18)
    loss, score, rate = figure.subplots(1, 3)
    _line(loss, epochs, history, "loss", "training loss")
    for column, label in task.labels.items():
        _line(score, epochs, history, column, label)
    _line(rate, epochs, history, "lr", "learning rate")
    column = next(column for column, figure_name in task.columns.items() if figure_name == task.score)
    scores = np.array([np.nan if row[column] is None else row[column] for row in history], float)
    if not np.isnan(scores).all():
        best = int(np.nanargmax(scores) if task.higher_is_better else np.nanargmin(scores))
        found = f"best: {scores[best]:.3f} in epoch {epochs[best]}"
        score.plot(epochs[best], scores[best], "o", color="C0", label=found)
    for axes, title in ((loss, "training loss"), (score, "validation"), (rate, "learning rate at the epoch's end")):
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    loss.set_ylim(bottom=0)
    shown = [row[column] for row in history for column in task.labels if row[column] is not None]
    if all(0 <= value <= 1 for value in shown):  # shares are read best on their whole scale
        score.set_ylim(0, 1)
    score.legend(loc="lower right" if task.higher_is_better else "upper right")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    picture = BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_bytes(path, picture.getvalue())


def _line(axes, epochs: list[int], history: list[dict], key: str, label: str) -> None:
    values = [np.nan if row[key] is None else row[key] for row in history]
    axes.plot(epochs, values, label=label, marker="." if len(epochs) < 30 else None)
