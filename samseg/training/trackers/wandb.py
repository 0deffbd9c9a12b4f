"""Weights & Biases: in the project of WANDB_PROJECT or else `samseg`; offline with WANDB_MODE=offline."""

import os
from pathlib import Path

from accelerate.tracking import WandBTracker

from samseg.training.trackers.tracker import PROJECT, Tracker


class WandB(Tracker):
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
