"""`train.batch_size: auto`: the largest batch that fits on the GPU, found by trying."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator

from samseg.common.errors import ConfigError, InputError
from samseg.models.trainable import checkpoint_gradients
from samseg.runs.config.schema import TrainConfig
from samseg.tasks import Task
from samseg.training.optimizer import optimizer_for

AUTO = "auto"
HEADROOM = 0.92  # of the memory: a long run needs some for what a few steps do not show, such as fragmentation


def find_batch_size(task: Task, settings: TrainConfig, accelerator: Accelerator, report: Any) -> int:
    """Images per step and process: the largest number whose training step fits on the device of every process.

    Steps are made on a copy of the model with random images of the real size; the random states are as before.
    Raises ConfigError where there is no GPU, and when not even one image fits.
    """
    device = accelerator.device
    if device.type != "cuda":
        raise ConfigError(
            f"train.batch_size=auto measures a GPU's memory, this is the {device}: set a number, such as 2"
        )
    images = report.images("train")
    torch.cuda.set_per_process_memory_fraction(HEADROOM)  # of the current device: accelerate's may have no number
    try:
        with torch.random.fork_rng():
            most = max(1, images // accelerator.num_processes)
            found = largest(lambda size: _fits(task, settings, accelerator, report, size), most)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    found = int(accelerator.gather(torch.tensor([found], device=device)).min())
    if found == 0:
        raise InputError(
            f"not even one image of data.image_size={task.preprocessing.size} can be trained on in this GPU's memory: "
            "lower data.image_size, set train.precision=bf16, or take a smaller model.encoder"
        )
    return found


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest size from 1 to ``limit`` that fits, by doubling and then halving the gap; 0 if none does.

    ``fits`` is called at each size at most once and must not fit again above a size that does not.
    """
    good, bad = 0, limit + 1
    while bad - good > 1:
        size = min(2 * good or 1, limit) if bad > limit else (good + bad) // 2
        good, bad = (size, bad) if fits(size) else (good, size)
    return good


def _fits(task: Task, settings: TrainConfig, accelerator: Accelerator, report: Any, size: int) -> bool:
    try:
        _train_steps(task, settings, accelerator, report, size)
        fits = True
    except torch.OutOfMemoryError:
        fits = False
    gc.collect()  # only here is what the failed step held let go
    torch.cuda.empty_cache()
    return fits


def _train_steps(task: Task, settings: TrainConfig, accelerator: Accelerator, report: Any, size: int) -> None:
    """Two steps, because the optimiser's moments come with the first. With the feature cache a step takes less."""
    device = accelerator.device
    model = task.build_model(pretrained=False).model.to(device).train()
    if settings.gradient_checkpointing:
        checkpoint_gradients(model)
    objective = task.objective(report).to(device)
    optimizer = optimizer_for(model, settings)
    batch = task.random_batch(size, device)
    for _ in range(2):
        with accelerator.autocast():
            outputs = model(task.inputs(batch))
        objective(outputs, batch, objective.weight(batch), batches=1).backward()
        optimizer.step()
        optimizer.zero_grad()
