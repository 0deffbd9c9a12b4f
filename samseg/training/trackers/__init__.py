"""Trackers: services that follow a run. One more is one file and one row."""

from importlib import import_module

from samseg.common.errors import ConfigError, InputError, did_you_mean
from samseg.training.trackers.mlflow import MLflow
from samseg.training.trackers.tensorboard import TensorBoard
from samseg.training.trackers.tracker import Tracker
from samseg.training.trackers.wandb import WandB

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
