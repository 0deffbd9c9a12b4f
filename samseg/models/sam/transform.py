"""From an image to the square that a SAM sees, and from its masks back to the image."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from samseg.encoders.registry import MEAN, STD


@dataclass(frozen=True)
class ImageTransform:
    """How an image of any size becomes the network's square, and where its points lie there.

    Attributes:
        size: side of the square, in pixels.
        mean, std: of RGB on 0..1, to normalise with.
    """

    size: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __call__(self, image: np.ndarray) -> Tensor:
        """An image (H, W, 3) uint8 -> the network's input (3, size, size)."""
        raise NotImplementedError

    def inner(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The part (h, w) of the square, at its upper left, that an image of ``shape`` (H, W) fills."""
        raise NotImplementedError

    def restore(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        """Mask logits (K, M, h, w) of the square -> at the size of the image, (K, M, H, W)."""
        raise NotImplementedError

    def apply_coords(self, coords: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Points (..., 2) as (x, y) in pixels of an image of ``shape`` (H, W) -> in pixels of the square."""
        height, width = self.inner(shape)
        return coords * np.array([width / shape[1], height / shape[0]])

    def _normalised(self, pixels: Tensor, unit: float) -> Tensor:
        """(3, H, W) on 0..unit -> as the network takes it."""
        mean, std = (torch.tensor([unit * v for v in values]).view(-1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std


class Padded(ImageTransform):
    """SAM's own: the longest side is resized to the square's, and the rest is padded with zeros."""

    def __call__(self, image: np.ndarray) -> Tensor:
        resized = ResizeLongestSide(self.size).apply_image(image)
        pixels = self._normalised(torch.from_numpy(resized).permute(2, 0, 1).float(), 255)
        return F.pad(pixels, (0, self.size - pixels.shape[2], 0, self.size - pixels.shape[1]))

    def inner(self, shape: tuple[int, int]) -> tuple[int, int]:
        return ResizeLongestSide.get_preprocess_shape(*shape, self.size)

    def restore(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        height, width = self.inner(shape)
        square = F.interpolate(logits, (self.size, self.size), mode="bilinear", align_corners=False)
        return F.interpolate(square[..., :height, :width], shape, mode="bilinear", align_corners=False)


class Squashed(ImageTransform):
    """SAM 2's own: both sides are resized to the square's, whatever the image's shape."""

    def __call__(self, image: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        square = F.interpolate(pixels, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        return self._normalised(square[0], 1)

    def inner(self, shape: tuple[int, int]) -> tuple[int, int]:
        return self.size, self.size

    def restore(self, logits: Tensor, shape: tuple[int, int]) -> Tensor:
        return F.interpolate(logits, shape, mode="bilinear", align_corners=False)
