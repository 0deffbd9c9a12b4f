"""A model's figures on a split, at each image's own size."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from samseg.config.load import task_of
from samseg.data.workers import prepare_worker
from samseg.inference.predictor import Predictor
from samseg.predict.rows import AUTOCAST
from samseg.report.run import write_report
from samseg.runs.facts import save_split
from samseg.runs.folder import evaluation_file, read_run_config
from samseg.runs.state import write_json
from samseg.tasks import Task
from samseg.tasks.sections import Gallery
from samseg.tasks.task import Details, Figures, Metrics


def evaluate(
    model: nn.Module,
    dataset: Dataset,
    task: Task,
    device: torch.device,
    *,
    autocast: torch.dtype | None = None,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    title: str = "evaluate",
    stopped: Callable[[], bool] = lambda: False,
) -> Metrics:
    """Predict every image of ``dataset`` (the task's evaluation items) as inference does, and count.

    One image at a time, since each has its own size. On several ``processes`` the one of ``rank`` predicts every
    ``processes``-th image, none twice, and what is computed of the counts is, on all, of the whole split. Once
    ``stopped`` says so the remaining images are left out.
    """
    metrics = task.metrics().to(device)
    share = Subset(dataset, range(rank, len(dataset), processes))
    loader = DataLoader(
        share, batch_size=None, num_workers=workers, collate_fn=_as_it_is, worker_init_fn=prepare_worker
    )
    for item in tqdm(loader, desc=title, unit="image", leave=False, disable=None if rank == 0 else True):
        task.measure(metrics, model, item, device, autocast)
        if stopped():
            break
    return metrics


def _as_it_is(item: dict) -> dict:
    return item


class Evaluation(NamedTuple):
    """What came out of a run on a split, the figures also as a table for people; `write` puts it into the run."""

    folder: Path
    split: str
    figures: Figures
    details: Details
    examples: Gallery | None
    table: str

    @property
    def path(self) -> Path:
        """The file in the run that is to hold the figures."""
        return evaluation_file(self.folder, self.split)

    def write(self) -> Path:
        """Write the figures and the run's report, whose file is returned.

        Not done by `evaluate_run`, so that figures are seen before the disk may refuse them.
        """
        write_json({self.split: self.figures}, self.path)
        save_split(self.folder, self.split, self.figures, self.details, self.examples)
        return write_report(self.folder)


def evaluate_run(folder: Path, split: str, tta: str | None = None) -> Evaluation:
    """Evaluate a run's best weights on a split of its data, on a GPU if there is one.

    ``tta``: see `samseg.predict.tta`; the figures name it. InputError for a folder that is no run and for data that are
    not as they should be.
    """
    config = read_run_config(folder)
    task = task_of(config)
    if tta is not None:
        task.use_tta(tta)
    task.check((split,))
    predictor = Predictor.from_run(folder, tta=tta)
    dataset = task.dataset(split, train=False, seed=config.seed)
    metrics = evaluate(
        predictor.model,
        dataset,
        task,
        predictor.device,
        autocast=AUTOCAST[config.train.precision] if predictor.device.type == "cuda" else None,
        workers=config.train.workers,
        title=split,
    )
    figures, details = metrics.compute() | ({"tta": tta} if tta else {}), metrics.details()
    examples = task.reporter().examples(predictor.model, dataset, details)
    return Evaluation(folder, split, figures, details, examples, task.table(figures))
