"""A model's metrics on a split, at each image's own size."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from samseg.config import DataConfig, read_run_config
from samseg.data.check import check_dataset
from samseg.data.dataset import SegmentationDataset
from samseg.inference.predictor import AUTOCAST, Predictor, evaluating, predict_rows, whole_rows
from samseg.training.metrics import SegmentationMetrics
from samseg.training.state import write_json
from samseg.training.stopping import outlive_sigterm

TILES_ON_GPU = 4  # predicted at a time


def evaluate(
    model: nn.Module,
    dataset: SegmentationDataset,
    config: DataConfig,
    device: torch.device,
    *,
    autocast: torch.dtype | None = None,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    title: str = "evaluate",
    stopped: Callable[[], bool] = lambda: False,
) -> dict:
    """Predict every image of ``dataset`` (its evaluation items) as inference does and count the pixels.

    One image at a time, since each has its own size. On several ``processes`` the one of ``rank`` predicts every
    ``processes``-th image, none twice, and all get the figures of the whole split. Once ``stopped``
    says so the remaining images are left out. Returns the figures of `SegmentationMetrics.compute`.
    """
    metrics = SegmentationMetrics(dataset.classes).to(device)
    share = Subset(dataset, range(rank, len(dataset), processes))
    loader = DataLoader(
        share, batch_size=None, num_workers=workers, collate_fn=_as_it_is, worker_init_fn=outlive_sigterm
    )
    for item in tqdm(loader, desc=title, unit="image", leave=False, disable=None if rank == 0 else True):
        for rows, logits in item_rows(model, item, config, device, autocast):
            metrics.update(logits.argmax(0), item["mask"][rows].to(device))
        if stopped():
            break
    return metrics.compute()


def item_rows(
    model: nn.Module, item: dict, config: DataConfig, device: torch.device, autocast: torch.dtype | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """(rows, logits (C, len(rows), W)) of an evaluation item, from its image or from its stored taps."""
    if "taps" not in item:
        batch = TILES_ON_GPU if device.type == "cuda" else 1
        yield from predict_rows(model, item["image"], config, batch=batch, device=device, autocast=autocast)
        return
    taps = [tap[None].to(device) for tap in item["taps"]]
    with (
        evaluating(model),
        torch.inference_mode(),
        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
    ):
        logits = model(taps)[0].float()
    yield from whole_rows(logits, tuple(item["mask"].shape))


def _as_it_is(item: dict) -> dict:
    return item


def evaluate_run(folder: Path, split: str) -> tuple[dict, Path]:
    """Evaluate a run's best weights on a split of its data, on a GPU if there is one.

    Returns the figures and the file beside the run that they were written to, ``metrics_<split>.json``. InputError for
    a folder that is no run and for data that are not as they should be.
    """
    config = read_run_config(folder)
    check_dataset(config.data.root, (split,), config.data)
    predictor = Predictor.from_run(folder)
    dataset = SegmentationDataset(config.data.root, split, config.data, train=False, seed=config.seed)
    on_gpu = predictor.device.type == "cuda"
    metrics = evaluate(
        predictor.model,
        dataset,
        config.data,
        predictor.device,
        autocast=AUTOCAST[config.train.precision] if on_gpu else None,
        workers=config.train.workers,
        title=split,
    )
    path = folder / f"metrics_{split}.json"
    write_json({split: metrics}, path)
    return metrics, path
