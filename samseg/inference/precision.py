"""Models with SAM's encoder in bfloat16 on CPUs with instructions for it: less than half of the time, and masks that
hardly differ.

Precisions are "fp32", which is the default, "bf16" and "auto", which tries both once. SAM's network is rounded to
bfloat16 and computes in it throughout; the rest keeps its weights and computes as autocast has it.
"""

import time
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from samseg.common.errors import InputError
from samseg.common.machine import cpu_has_bfloat16
from samseg.data.preprocess import Preprocessing
from samseg.data.raster import Raster
from samseg.encoders.encoder import trunk_of
from samseg.predict.rows import AUTOCAST, likeliest, predict_logits

PRECISIONS = ("fp32", "bf16", "auto")
LEAST_GAIN = 1.1  # times as fast as float32, or "auto" stays with that
MOST_DIFFERENT = 0.005  # of the pixels of the image that is tried: above this "auto" stays with float32


def check_precision(precision: str | None, model: nn.Module, device: torch.device) -> None:
    """InputError where ``model`` cannot be run so on ``device``; None is how it is run by default."""
    if precision is None:
        return
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    if device.type != "cpu":
        raise InputError(
            f"precision={precision} is for CPUs, this is the {device}, which computes as trained; leave it out"
        )
    if precision == "bf16" and trunk_of(model) is None:
        raise InputError("precision=bf16 is for samseg's encoders, and this model has another; leave it out")
    if precision == "bf16" and not cpu_has_bfloat16():
        raise InputError("precision=bf16 would be slower here: this CPU has no instructions for it; leave it out")


def fastest(model: nn.Module, preprocessing: Preprocessing, image: Raster) -> tuple[nn.Module, str, str]:
    """``model``, or the same for bfloat16, the precision's name, and why it is this one.

    Both classify the middle of ``image``, of the network's size; bfloat16 must be `LEAST_GAIN` times as fast
    and may change `MOST_DIFFERENT` of the pixels.
    """
    if trunk_of(model) is None or not cpu_has_bfloat16():
        return model, "fp32", "bfloat16 is for samseg's encoders on CPUs with instructions for it"
    rounded = deepcopy(model)
    rounded.encoder.round_trunk()
    size, (height, width) = preprocessing.size, image.pixels.shape[1:]
    view = image.crop((max(0, (height - size) // 2), max(0, (width - size) // 2), size, size))
    exact, found = _classified(model, view, preprocessing, "fp32"), _classified(rounded, view, preprocessing, "bf16")
    different, ratio = float((exact[0] != found[0]).mean()), exact[1] / found[1]
    why = f"{ratio:.1f} times as fast in bfloat16, {different:.2%} of the pixels that were tried differ"
    if ratio >= LEAST_GAIN and different <= MOST_DIFFERENT:
        return rounded, "bf16", why
    return model, "fp32", why


def _classified(
    model: nn.Module, image: Raster, preprocessing: Preprocessing, precision: str
) -> tuple[np.ndarray, float]:
    """Classes (H, W) and the seconds that a second run takes: the first allocates."""
    for _ in range(2):
        start = time.perf_counter()
        logits = predict_logits(model, image, preprocessing, autocast=AUTOCAST[precision])
        seconds = time.perf_counter() - start
    return likeliest(logits), seconds
