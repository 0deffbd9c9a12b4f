"""The trackers of a run: one that fails is reported once and left out, and never ends the run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from samseg.common.errors import InputError, first_line
from samseg.runs.state import RunState
from samseg.tasks import Task
from samseg.training.processes import on_main
from samseg.training.trackers import TRACKERS, Tracker


class Tracking:
    """The trackers that still follow a run. Without any, as on all processes but the main one, it does nothing."""

    def __init__(self, tell: Callable[[str], None] = print):
        self._tell = tell
        self._following: dict[str, Tracker] = {}

    def start(self, names: list[str], settings: dict[str, Any], folder: Path, state: RunState) -> None:
        """Begin with a run, or go on with it, and keep in the ``state`` what each tracker has it as.

        Raises InputError when one cannot begin with a new run, while there is nothing to lose.
        """
        for name in names:
            known = state.trackers.get(name)
            tracker = TRACKERS[name]()
            try:
                state.trackers[name] = tracker.start(folder, state.epoch, known)
                self._following[name] = tracker
                if known is None:
                    tracker.configure(settings)
            except Exception as error:
                if state.begun():
                    self._leave_out(name, error)
                    continue
                self.finish(done=False)
                remedy = f"{tracker.remedy}, or " if tracker.remedy else ""
                raise InputError(
                    f"train.trackers: {name} cannot start ({first_line(error)}): {remedy}leave it out"
                ) from error

    def log(self, values: dict[str, float | None], epoch: int) -> None:
        """Figures of an epoch by name; what does not exist is left out."""
        there = {name: value for name, value in values.items() if value is not None}
        self._each(lambda tracker: tracker.log(there, epoch))

    def picture(self, file: Path, epoch: int) -> None:
        self._each(lambda tracker: tracker.picture(file, epoch))

    def results(self, task: Task, state: RunState) -> None:
        """The figures of the best epoch."""
        best = {name: state.best[name] for name in task.columns.values()} | task.scalars(state.best)
        values = {"best/epoch": state.best_epoch} | {f"best/{name}": value for name, value in best.items()}
        self.log(values, state.epoch)

    def weights(self, file: Path) -> None:
        """The best weights, for the trackers that take files."""
        self._each(lambda tracker: tracker.keep(file))

    def finish(self, done: bool) -> None:
        """Let go of the run, which is ``done`` or was stopped."""
        self._each(lambda tracker: tracker.finish(done))
        self._following.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._following.items()):
            try:
                act(tracker)
            except Exception as error:  # of any kind, as they come from networks and other people's libraries
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        tracker = self._following.pop(name, None)
        if tracker is not None:
            with suppress(Exception):
                tracker.finish(done=False)
        self._tell(f"WARNING: {name} failed ({first_line(error)}); the run goes on without it")


@contextmanager
def tracked(
    names: list[str], settings: dict[str, Any], folder: Path, state: RunState, accelerator: Accelerator
) -> Iterator[Tracking]:
    """Let the trackers called ``names`` follow the run in ``folder``, which has these ``settings``, for the block.

    Raises InputError as `Tracking.start`.
    """
    tracking = Tracking(accelerator.print)
    on_main(accelerator, lambda: tracking.start(names, settings, folder, state))
    try:
        yield tracking
    except BaseException:
        tracking.finish(done=False)
        raise
    tracking.finish(done=True)
