"""A network and an image of any size: logits at the image's own size, a few rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samseg.data.preprocess import Preprocessing, resize_to_image
from samseg.data.raster import Raster, as_raster
from samseg.predict.tiling import TilePlan, blended_rows
from samseg.predict.tta import Network, averaged

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
STRIPE_PX = 2**20  # pixels handed out at a time by `predict_rows` for a whole image


def predict_logits(model: nn.Module, image: Raster | np.ndarray, preprocessing: Preprocessing, **how: Any) -> Tensor:
    """Logits (C, H, W) float32 for an image at its own size; ``how`` as `predict_rows` says."""
    return torch.cat([logits for _, logits in predict_rows(model, image, preprocessing, **how)], dim=1)


def predict_rows(
    model: nn.Module,
    image: Raster | np.ndarray,
    preprocessing: Preprocessing,
    *,
    tile: bool | None = None,
    overlap: int | None = None,
    batch: int = 1,
    tta: str | None = None,
    device: str | torch.device | None = None,
    autocast: torch.dtype | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, logits (C, len(rows), W) float32) from the image's top to its bottom, so that any size fits.

    ``image`` is a Raster as a source reads it, (bands, H, W) with its valid pixels, or an array (H, W, bands) or
    (H, W); all bands, as they are stored, of any dtype.

    With ``tile`` the image is seen at native resolution in tiles of the network's size, ``overlap`` px (None: a
    quarter of a tile) shared by neighbours, ``batch`` tiles at a time; without, as a whole at the network's size; None:
    as the model was trained. Softmax over the classes gives probabilities either way: the logits of a whole image are
    the model's own, resized; those of tiles are the logarithms of the blended probabilities. ``tta`` averages over
    flips and turns of what the network sees, see `samseg.predict.tta`.

    ``device``: where ``model`` is (None: asked of its parameters). It predicts in evaluation mode; afterwards each of
    its modules is in the mode it was in. InputError for an image that ``preprocessing`` is not for.
    """
    image = as_raster(image)
    preprocessing.check_pixels(image.pixels)
    device = device or next((parameter.device for parameter in model.parameters()), "cpu")
    size = preprocessing.size
    height, width = image.pixels.shape[1:]

    def read(top: int, left: int) -> Tensor:
        return preprocessing.tile_input(image.crop((top, left, size, size)))

    if not preprocessing.resize if tile is None else tile:
        plan = TilePlan(height, width, size, size // 4 if overlap is None else overlap)
        network = network_on(device, model, plan.inside, autocast, tta)
        for rows, probabilities in blended_rows(plan, read, network, batch):
            yield rows, probabilities.clamp(min=torch.finfo(torch.float32).tiny).log_()
    else:
        inner = preprocessing.inner((height, width))
        network = network_on(device, model, inner, autocast, tta)
        yield from whole_rows(network(preprocessing.whole_input(image)[None])[0], inner, (height, width))


def network_on(
    device: str | torch.device,
    model: nn.Module,
    shape: tuple[int, int],
    autocast: torch.dtype | None = None,
    tta: str | None = None,
) -> Network:
    """A function from inputs (B, C, S, S) to the logits (B, K, S, S) float32 of ``model`` in evaluation mode.

    ``device``: where the model is and the logits will be. ``shape`` (h, w): of the image within an input, top left.
    ``tta``: see `samseg.predict.tta`.
    """

    def logits(inputs: Tensor) -> Tensor:
        with predicting(model, device, autocast):
            return model(inputs).float()

    network = averaged(logits, tta, shape)
    return lambda inputs: network(inputs.to(device))


def whole_rows(logits: Tensor, inner: tuple[int, int], shape: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, logits (C, len(rows), W)) at the image's own ``shape`` (H, W) from the network's (C, size, size).

    ``inner`` (h, w) is the part of the latter that the image fills.
    """
    height, width = shape
    step = max(1, STRIPE_PX // width)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        yield rows, resize_to_image(logits, inner, shape, rows)


@contextmanager
def predicting(model: nn.Module, device: str | torch.device, autocast: torch.dtype | None = None) -> Iterator[None]:
    """Put the model into evaluation mode, without gradients; restore each module's own mode afterwards.

    ``autocast``: what it computes in where autocast has it on ``device``; None: in its own type.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        kind = torch.device(device).type
        with torch.inference_mode(), torch.autocast(kind, dtype=autocast, enabled=autocast is not None):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def likeliest(logits: Tensor) -> np.ndarray:
    """Logits (C, H, W) -> class indices (H, W) uint8."""
    return logits.max(dim=0).indices.byte().cpu().numpy()  # on CPUs several times faster than argmax
