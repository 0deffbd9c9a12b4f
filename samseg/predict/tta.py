"""Test-time augmentation: the mean of a network's answers to an image flipped and turned."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.common.errors import require

FLIPS = ((), (3,), (2,), (2, 3))  # axes of (B, C, H, W) that are mirrored
WAYS = {
    "flips": (False,),
    "d4": (False, True),
}  # whether the axes are swapped after that: all of the square's symmetries

Network = Callable[[Tensor], Tensor]


def check_tta(tta: str | None) -> None:
    """ConfigError for a way that there is not."""
    require("tta", tta, f"one of {', '.join(WAYS)}", WAYS.__contains__)


def averaged(network: Network, tta: str | None, shape: tuple[int, int]) -> Network:
    """A ``network``, inputs (B, C, S, S) -> logits (B, K, S, S), that answers for several views of its inputs at once.

    What is averaged is probabilities; the answer is their logarithms, whose softmax they are.

    Args:
        tta: "flips" (four views) or "d4" (these, and each with rows and columns swapped); None: the network as it is.
        shape: (h, w) of the image within the inputs, top left; the rest is padding, which is put right and bottom of
            each view as the network knows it, and has probability nowhere.
    """
    if tta is None:
        return network

    def answer(inputs: Tensor) -> Tensor:
        total = sum(logits.float().softmax(dim=1) for logits in _answers(network, inputs, tta, shape))
        mean = total / (len(FLIPS) * len(WAYS[tta]))
        return _padded(mean.clamp(min=torch.finfo(torch.float32).tiny).log(), inputs.shape[-1])

    return answer


def _answers(network: Network, inputs: Tensor, tta: str, shape: tuple[int, int]) -> Iterator[Tensor]:
    """Logits (B, K, h, w) from each view, turned back."""
    height, width = shape
    image = inputs[..., :height, :width]
    for swapped in WAYS[tta]:
        for axes in FLIPS:
            view = image.flip(axes)
            view = view.mT.contiguous() if swapped else view
            logits = network(_padded(view, inputs.shape[-1]))[..., : view.shape[2], : view.shape[3]]
            yield (logits.mT if swapped else logits).flip(axes)


def _padded(image: Tensor, size: int) -> Tensor:
    return F.pad(image, (0, size - image.shape[3], 0, size - image.shape[2]))
