"""An image as SAM's encoder sees it, and the network's answer back at the image's own size."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the longest side at ``size``, as in segment-anything's ResizeLongestSide; at least 1."""
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def network_view(image: np.ndarray, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The whole image (H, W, 3) uint8 as the network's input (3, size, size) float32.

    As in SAM, and as in training: longest side resized to ``size``, normalised (``mean`` and ``std`` on 0..1), then
    padded right and bottom with zeros. Shrinking averages over areas, because OpenCV's bilinear filter aliases there.
    """
    height, width = resized_shape(*image.shape[:2], size)
    if (height, width) != image.shape[:2]:
        method = cv2.INTER_AREA if size < max(image.shape[:2]) else cv2.INTER_LINEAR
        image = cv2.resize(image, (width, height), interpolation=method)
    return padded(normalised(image, mean, std), size)


def normalised(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32, ``mean`` and ``std`` on 0..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()
    return (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def padded(pixels: Tensor, size: int) -> Tensor:
    """(3, H, W), H and W at most ``size``, padded right and bottom with zeros to (3, size, size)."""
    return F.pad(pixels, (0, size - pixels.shape[2], 0, size - pixels.shape[1]))


def own_size(logits: Tensor, shape: tuple[int, int], rows: slice | None = None) -> Tensor:
    """The network's logits (C, size, size) at the image's own ``shape`` (H, W): padding cut off, bilinear: (C, H, W).

    ``rows`` (start and stop given) asks for those rows of the answer alone, (C, stop - start, W), so that a large image
    need not be held in logits.
    """
    height, width = shape
    inner_height, inner_width = resized_shape(height, width, logits.shape[-1])
    inner = logits[:, :inner_height, :inner_width].float()
    if rows is None:
        return F.interpolate(inner[None], size=shape, mode="bilinear", align_corners=False)[0]
    # F.interpolate cannot answer for a part, so the rows are interpolated by hand (pixel centres, as it does) ...
    centre = torch.arange(rows.start, rows.stop, device=logits.device, dtype=torch.float64) + 0.5
    y = (centre * (inner_height / height) - 0.5).clamp(0, inner_height - 1)
    above = y.long()
    below = (above + 1).clamp(max=inner_height - 1)
    lines = torch.lerp(inner[:, above], inner[:, below], (y - above).float()[:, None])
    # ... and the columns by it.
    return F.interpolate(lines[None], size=(len(y), width), mode="bilinear", align_corners=False)[0]
