"""Failures of a training step that the user can mend, as one line that says how."""

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from samseg.common.errors import ConfigError, InputError
from samseg.common.files import WriteError
from samseg.common.machine import memory_bytes
from samseg.data.preprocess import Preprocessing
from samseg.runs.config.schema import TrainConfig


@contextmanager
def mendable_errors(config: TrainConfig) -> Iterator[None]:
    """Turn what an epoch can run into (memory, a batch of one, an image gone, a full disk) into an InputError."""
    try:
        yield
    except WriteError as error:
        raise InputError(f"{error}; train.resume=true goes on after that") from error
    except InputError:
        raise
    except (RuntimeError, ValueError, OSError, SafetensorError) as error:
        line = _explanation(error, config)
        if line is None:
            raise
        raise InputError(line) from error


def _explanation(error: Exception, config: TrainConfig) -> str | None:
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return (
            f"out of memory at train.batch_size={config.batch_size}, train.precision={config.precision}: lower "
            "train.batch_size (train.accumulate makes up for it) or data.image_size, or set train.precision=bf16"
        )
    if "Expected more than 1 value per channel" in text:
        return (
            "this decoder's batch normalisation cannot train on one image at a time: set train.batch_size to 2 or more "
            "(and have as many training images), or choose another model.arch"
        )
    if "DataLoader worker" in text and ("killed by signal" in text or "exited unexpectedly" in text):
        return (
            f"a process that reads images was killed, most likely for memory: lower train.workers ({config.workers}) "
            "or train.batch_size"
        )
    if os.strerror(errno.ENOSPC) in text:  # of what others write
        return "the disk of the run folder is full; make room, then go on with train.resume=true"
    return None


def check_memory(preprocessing: Preprocessing, classes: int) -> None:
    """Raise ConfigError for an image size at which one image alone is more than the machine's memory.

    The system would end the process without a word. Counted are an image, its logits and their gradient: the least
    that any network needs.
    """
    size, total = preprocessing.size, memory_bytes()
    needed = 4 * size**2 * (preprocessing.channels + 2 * max(1, classes))
    if total is not None and needed > total:
        raise ConfigError(
            f"data.image_size={size}: one image and its logits take {needed / 2**30:.0f} GiB, this machine "
            f"has {total / 2**30:.0f} GiB: lower it; larger images are trained on in crops, with data.resize=false"
        )


def check_finite(loss: float, epoch: int, step: int, config: TrainConfig) -> None:
    """Raise ConfigError when the loss of a step is NaN or infinite: from there on nothing can be learnt."""
    if not math.isfinite(loss):
        lower = f"lower train.lr ({config.lr:g})"
        precision = "" if config.precision == "fp32" else f" or set train.precision=fp32 (it is {config.precision})"
        raise ConfigError(f"the loss is {loss} in epoch {epoch}, step {step}: {lower}{precision} and start a new run")
