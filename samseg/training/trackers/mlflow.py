"""MLflow: where MLFLOW_TRACKING_URI says, in the experiment of MLFLOW_EXPERIMENT_NAME or else `samseg`."""

import re
from pathlib import Path
from typing import Any

from accelerate.tracking import MLflowTracker

from samseg.training.trackers.tracker import PROJECT, Tracker


class MLflow(Tracker):
    """Settings are parameters, figures are metrics, pictures and files are artifacts: the latest of a name stays."""

    package = "mlflow"
    remedy = "set MLFLOW_TRACKING_URI to a server that answers, or to a place of this machine"

    def start(self, folder: Path, epoch: int, known: str | None) -> str:
        self.tracker = MLflowTracker(PROJECT, run_id=known, run_name=folder.name)
        self.tracker.start()
        return self.tracker.tracker.info.run_id

    def configure(self, settings: dict[str, Any]) -> None:
        super().configure(_named(settings))

    def log(self, values: dict[str, float], epoch: int) -> None:
        super().log(_named(values), epoch)

    def picture(self, file: Path, epoch: int) -> None:
        self.keep(file)

    def keep(self, file: Path) -> None:
        self.tracker.log_artifact(str(file))

    def finish(self, done: bool) -> None:
        import mlflow

        mlflow.end_run("FINISHED" if done else "KILLED")


def _named(values: dict[str, Any]) -> dict[str, Any]:
    """Figures under names that MLflow takes; classes may have others."""
    return {re.sub(r"[^\w\-. /]", "_", name): value for name, value in values.items()}
