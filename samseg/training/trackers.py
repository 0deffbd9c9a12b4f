"""Trackers: services that follow a run, by accelerate's tracker of each and what its library does beyond that."""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, WandBTracker

from samseg.common.errors import ConfigError, InputError, did_you_mean

PROJECT = "samseg"  # what runs are kept under where the service's own variables say nothing else


class Tracker:
    """The contract. Any method may raise anything.

    Attributes:
        package: what must be importable.
        remedy: what a user may do when it cannot start.
        tracker: accelerate's, once started.
    """

    package: ClassVar[str]
    remedy: ClassVar[str] = ""
    tracker: GeneralTracker

    def start(self, folder: Path, epoch: int, known: str | None) -> str:
        """Begin with the run in ``folder``, or go on behind ``epoch`` with the one that the service has as ``known``.

        Returns what the service has it as.
        """
        raise NotImplementedError

    def configure(self, settings: dict[str, Any]) -> None:
        """Take down the settings of a new run, by dotted keys."""
        self.tracker.store_init_configuration(settings)

    def log(self, values: dict[str, float], epoch: int) -> None:
        self.tracker.log(values, step=epoch)

    def picture(self, file: Path, epoch: int) -> None:
        """Show a PNG of the run; one that lies in the run's folder need not."""

    def keep(self, file: Path) -> None:
        """Take a file of the run, such as its weights; one that lies in the run's folder need not."""

    def finish(self, done: bool) -> None:
        """Let go of the run, which is ``done`` or was stopped."""
        self.tracker.finish()


class TensorBoard(Tracker):
    """Events in the run's folder: figures, a step an epoch; resuming hides what came later."""

    package = "tensorboard"

    def start(self, folder: Path, epoch: int, known: str | None) -> str:
        self.tracker = TensorBoardTracker(".", folder, purge_step=epoch + 1)
        self.tracker.start()
        return folder.name

    def configure(self, settings: dict[str, Any]) -> None:
        """As text; accelerate would write hyperparameters into a folder of their own."""
        self.tracker.log({"config": "\n".join(f"    {key}: {value}" for key, value in settings.items())}, step=0)


class MLflow(Tracker):
    """Where MLFLOW_TRACKING_URI says, in the experiment of MLFLOW_EXPERIMENT_NAME or else `samseg`.

    Settings are parameters, figures are metrics, pictures and files are artifacts: the latest of a name stays.
    """

    package = "mlflow"
    remedy = "set MLFLOW_TRACKING_URI to a server that answers, or to a place of this machine"

    def start(self, folder: Path, epoch: int, known: str | None) -> str:
        self.tracker = MLflowTracker(PROJECT, run_id=known, run_name=folder.name)
        self.tracker.start()
        return self.tracker.tracker.info.run_id

    def configure(self, settings: dict[str, Any]) -> None:
        super().configure(_allowed_names(settings))

    def log(self, values: dict[str, float], epoch: int) -> None:
        super().log(_allowed_names(values), epoch)

    def picture(self, file: Path, epoch: int) -> None:
        self.keep(file)

    def keep(self, file: Path) -> None:
        self.tracker.log_artifact(str(file))

    def finish(self, done: bool) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if done else "KILLED")


class WandB(Tracker):
    """Weights & Biases: in the project of WANDB_PROJECT or else `samseg`; offline with WANDB_MODE=offline."""

    package = "wandb"
    remedy = "log in with wandb login, or set WANDB_MODE=offline and send the run later with wandb sync"

    def start(self, folder: Path, epoch: int, known: str | None) -> str:
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self.tracker = WandBTracker(project, id=known, name=folder.name, resume="allow" if known else None)
        self.tracker.start()
        return self.tracker.tracker.id

    def picture(self, file: Path, epoch: int) -> None:
        self.tracker.log_images({file.stem: [str(file)]}, step=epoch)

    def keep(self, file: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{file.stem}-{self.tracker.tracker.id}", type="model")
        artifact.add_file(str(file))
        self.tracker.tracker.log_artifact(artifact)

    def finish(self, done: bool) -> None:
        self.tracker.tracker.finish(exit_code=0 if done else 1)


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


def check_trackers(names: list[str]) -> None:
    """Raise ConfigError for a tracker that there is not, InputError for one whose package is not installed."""
    for name in names:
        if name not in TRACKERS:
            hint = did_you_mean(name, TRACKERS)
            raise ConfigError(f"train.trackers may hold {', '.join(TRACKERS)}; got {name!r}{hint}")
        try:
            import_module(TRACKERS[name].package)
        except ImportError as error:
            raise InputError(
                f'train.trackers: {name} is not installed ({error}): pip install "samseg-smp[{name}]"'
            ) from None


def _allowed_names(values: dict[str, Any]) -> dict[str, Any]:
    """Values under names that MLflow takes; classes may have others."""
    return {re.sub(r"[^\w\-. /]", "_", name): value for name, value in values.items()}
