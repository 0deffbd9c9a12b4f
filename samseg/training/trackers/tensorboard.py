"""TensorBoard: events in the run's folder."""

from pathlib import Path
from typing import Any

from accelerate.tracking import TensorBoardTracker

from samseg.training.trackers.tracker import Tracker


class TensorBoard(Tracker):
    """Figures, a step an epoch; resuming hides what came later. Pictures and weights lie beside them."""

    package = "tensorboard"

    def start(self, folder: Path, epoch: int, known: str | None) -> str:
        self.tracker = TensorBoardTracker(".", folder, purge_step=epoch + 1)
        self.tracker.start()
        return folder.name

    def configure(self, settings: dict[str, Any]) -> None:
        """As text; accelerate would write hyperparameters into a folder of their own."""
        self.tracker.log({"config": "\n".join(f"    {key}: {value}" for key, value in settings.items())}, step=0)

    def picture(self, file: Path, epoch: int) -> None:
        pass

    def keep(self, file: Path) -> None:
        pass
