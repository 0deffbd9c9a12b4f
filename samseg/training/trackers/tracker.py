"""The contract of a tracker: a service that follows a run."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from accelerate.tracking import GeneralTracker

PROJECT = "samseg"  # what runs are kept under where the service's own variables say nothing else


class Tracker(ABC):
    """A service, by accelerate's tracker of it and what its library does beyond that. Any method may raise anything.

    Attributes:
        package: what must be importable.
        remedy: what a user may do when it cannot start.
        tracker: accelerate's, once started.
    """

    package: ClassVar[str]
    remedy: ClassVar[str] = ""
    tracker: GeneralTracker

    @abstractmethod
    def start(self, folder: Path, epoch: int, known: str | None) -> str:
        """Begin with the run in ``folder``, or go on behind ``epoch`` with the one that the service has as ``known``.

        Returns what the service has it as.
        """

    def configure(self, settings: dict[str, Any]) -> None:
        """Take down the settings of a new run, by dotted keys."""
        self.tracker.store_init_configuration(settings)

    def log(self, values: dict[str, float], epoch: int) -> None:
        self.tracker.log(values, step=epoch)

    @abstractmethod
    def picture(self, file: Path, epoch: int) -> None:
        """Show a PNG of the run."""

    @abstractmethod
    def keep(self, file: Path) -> None:
        """Take a file of the run, such as its weights."""

    def finish(self, done: bool) -> None:
        """Let go of the run, which is ``done`` or was stopped."""
        self.tracker.finish()
