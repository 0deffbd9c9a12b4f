"""A predictor's network as maps call it: tiles -> probabilities."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from samseg.predict.rows import evaluating
from samseg.predict.tta import averaged


def tile_network(
    model: nn.Module,
    device: torch.device,
    shape: tuple[int, int],
    autocast: torch.dtype | None = None,
    tta: str | None = None,
) -> Callable[[Tensor], Tensor]:
    """A function from inputs (B, C, S, S) to class probabilities (B, K, S, S) float32 on the CPU.

    ``shape`` (h, w) of a tile's part within the raster; ``tta``: see `samseg.predict.tta`.
    """

    def logits(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            return model(pixels)

    network = averaged(logits, tta, shape)

    def answer(inputs: Tensor) -> Tensor:
        with torch.inference_mode(), evaluating(model):
            return network(inputs.to(device)).float().softmax(dim=1).cpu()

    return answer
