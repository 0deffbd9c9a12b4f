"""A predictor's network as maps call it: tiles -> probabilities."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from samseg.predict.rows import evaluating


def tile_network(
    model: nn.Module, device: torch.device, autocast: torch.dtype | None = None, tta: bool = False
) -> Callable[[Tensor], Tensor]:
    """A function from inputs (B, C, S, S) to class probabilities (B, K, S, S) float32 on the CPU.

    With ``tta`` they are the mean over the eight flips and quarter turns of a tile.
    """

    def probabilities(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            logits = model(pixels)
        return logits.float().softmax(dim=1)

    def answer(inputs: Tensor) -> Tensor:
        with torch.inference_mode(), evaluating(model):
            inputs = inputs.to(device)
            if not tta:
                return probabilities(inputs).cpu()
            total = 0
            for turns in range(4):
                turned = inputs.rot90(turns, (2, 3))
                total = total + probabilities(turned).rot90(-turns, (2, 3))
                total = total + probabilities(turned.flip(3)).flip(3).rot90(-turns, (2, 3))
            return (total / 8).cpu()

    return answer
