"""A model's figures on a split, at each image's own size."""

from collections.abc import Callable
from contextlib import closing

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from samseg.data.loader import Loader
from samseg.tasks.task import Metrics, Task


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
    also: Callable[[dict, np.ndarray | None], None] | None = None,
) -> Metrics:
    """Predict every image of ``dataset`` (the task's evaluation items) as inference does, and count.

    One image at a time, since each has its own size. On several ``processes`` the one of ``rank`` predicts every
    ``processes``-th image, none twice, and what is computed of the counts is, on all, of the whole split. Once
    ``stopped`` says so the remaining images are left out. ``also`` is given each item with its predicted classes
    (H, W), None where the task predicts none.
    """
    metrics = task.metrics().to(device)
    share = Subset(dataset, range(rank, len(dataset), processes))
    with closing(Loader(share, workers, batch_size=None, collate_fn=_as_it_is)) as loader:
        for item in tqdm(loader, desc=title, unit="image", leave=False, disable=None if rank == 0 else True):
            classes = task.measure(metrics, model, item, device, autocast)
            if also is not None:
                also(item, classes)
            if stopped():
                break
    return metrics


def _as_it_is(item: dict) -> dict:
    return item
