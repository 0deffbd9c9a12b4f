"""An image as the network sees it, and the network's answer back at the image's own size.

Training, evaluation, inference, the feature cache and export all come through here: bands are chosen, their values
scaled, the image fitted or cut into tiles, normalised and padded. Between scaling and normalising an image is (H, W, C)
of uint8 on 0..255 or of float32 on 0..1, as augmentation and OpenCV take it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.common.errors import ConfigError, InputError
from samseg.data.raster import Raster
from samseg.data.views import apply_view

PERCENTILE, SQUASH = "percentile", "squash"


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input: what the keys ``data.bands`` to ``data.std`` say, complete.

    Methods that take an image or its pixels raise InputError, naming it as ``name``, for bands or values that the
    configuration is not for.

    Attributes:
        size: S, pixels a side of the network's square input.
        resize: True: whole images are fitted into it, the longest side at S; `SQUASH`: both sides at S, as SAM 2 sees
            them; False: it is trained on crops and used on tiles.
        bands: numbers from 1; None: the first three, or the only one thrice.
        scale: the values that become 0..1, [low, high] or such a pair for each band; None: 0..255.
        mean, std: of each band, on 0..1.
    """

    size: int
    resize: bool | str
    bands: list[int] | None
    scale: Any
    mean: list[float]
    std: list[float]

    @property
    def channels(self) -> int:
        """Bands that the network is given."""
        return len(self.mean)

    @property
    def ranges(self) -> list[list[float]]:
        """The range of each chosen band that becomes 0..1; ``scale`` must not be None."""
        if self.scale == PERCENTILE:
            raise ConfigError(f"data.scale={PERCENTILE} is measured when a run begins; give ranges in numbers here")
        return self.scale if isinstance(self.scale[0], list) else [self.scale] * self.channels

    def chosen_bands(self, count: int, name: object = "image") -> list[int]:
        """Indices from 0 of the bands that are used of an image's ``count``."""
        if self.bands is not None:
            if max(self.bands) > count:
                has = f"{count} bands" if count > 1 else "one band"
                raise InputError(f"{name} has {has}; data.bands={self.bands} asks for band {max(self.bands)}")
            return [band - 1 for band in self.bands]
        if count == 2:
            raise InputError(f"{name} has two bands; say which are used: data.bands=[1,2], or one of them")
        return [0, 1, 2] if count > 2 else [0, 0, 0]

    def whole_input(self, image: Raster, name: object = "image", view: int = 0) -> Tensor:
        """The whole image, raw (C, H, W), in one of `samseg.data.views.VIEWS`, as the network's input (bands, S, S).

        It fills `inner`; right and below are zeros, as in SAM. Pixels without data are 0.
        """
        picture, valid = self.scaled(image, name)
        return self.network_input(
            apply_view(picture, view), None if valid is None else apply_view(valid, view), fit=True
        )

    def inner(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The part (h, w) of the network's square, at its upper left, that a whole image of ``shape`` (H, W) fills."""
        return (self.size, self.size) if self.resize == SQUASH else resized_shape(*shape, self.size)

    def tile_input(self, window: Raster, name: object = "image") -> Tensor:
        """A window of an image, raw (C, h, w), h and w at most S, at its own resolution, as `whole_input`."""
        return self.network_input(*self.scaled(window, name), fit=False)

    def network_input(self, picture: np.ndarray, valid: np.ndarray | None, fit: bool) -> Tensor:
        """A scaled image (H, W, C), normalised and padded: (C, S, S) float32, 0 where not valid.

        ``fit``: resized to `inner`; otherwise H and W are at most S, and stay.
        """
        if fit and (inner := self.inner(picture.shape[:2])) != picture.shape[:2]:
            picture = (squashed if self.resize == SQUASH else fitted)(picture, inner)
            valid = None if valid is None else fitted_map(valid.astype(np.uint8), inner).astype(bool)
        pixels = normalised(picture, self.mean, self.std)
        if valid is not None:
            pixels.mul_(torch.from_numpy(valid))
        return F.pad(pixels, (0, self.size - pixels.shape[2], 0, self.size - pixels.shape[1]))

    def map_input(self, values: np.ndarray, fill: float, fit: bool) -> np.ndarray:
        """A map (H, W) of an image as `network_input` lays the image out, (S, S), padded with ``fill``."""
        values = fitted_map(values, self.inner(values.shape)) if fit else values
        height, width = values.shape
        return np.pad(values, ((0, self.size - height), (0, self.size - width)), constant_values=fill)

    def scaled(self, image: Raster, name: object = "image") -> tuple[np.ndarray, np.ndarray | None]:
        """The chosen bands (H, W, bands), uint8 or float32 on 0..1, and the valid pixels (H, W) bool or None.

        Values beyond a band's range are clipped. A pixel with a NaN in a chosen band is not valid; pixels without data
        have the mean colour, which is 0 once normalised.
        """
        self.check_pixels(image.pixels, name)
        pixels, valid = self._chosen(image.pixels, name), self.valid_pixels(image, name)
        if self.scale is None:
            picture, fill = np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), np.round(255 * np.array(self.mean))
        else:
            exact = np.result_type(pixels.dtype, np.float32)  # 32 bits hold what has 16, and 64 what has more
            low, high = np.array(self.ranges, exact).T[:, :, None, None]
            picture = np.moveaxis((pixels - low) / (high - low), 0, -1).astype(np.float32, order="C")
            picture, fill = picture.clip(0, 1, out=picture), self.mean
        if valid is not None:
            picture = picture if picture.flags.writeable and picture.base is None else picture.copy()
            picture[~valid] = np.asarray(fill, picture.dtype)
        return picture, valid

    def valid_pixels(self, image: Raster, name: object = "image") -> np.ndarray | None:
        """(H, W) bool, False for nodata and where a chosen band is no finite number; None: all pixels are valid."""
        pixels, valid = image
        if pixels.dtype.kind != "f":
            return valid
        finite = np.isfinite(self._chosen(pixels, name)).all(0)
        if finite.all():
            return valid
        return finite if valid is None else valid & finite

    def _chosen(self, pixels: np.ndarray, name: object) -> np.ndarray:
        """The chosen bands (bands, H, W); not copied where they are the first ones."""
        bands = self.chosen_bands(len(pixels), name)
        return pixels[: len(bands)] if bands == list(range(len(bands))) else pixels[bands]

    def check_pixels(self, pixels: np.ndarray, name: object = "image") -> None:
        """InputError unless raw pixels are (C, H, W), hold the bands that are chosen, and are of the scale."""
        if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype.kind not in "uif":
            raise InputError(f"{name} must be bands (C, H, W) of numbers, got {pixels.shape} of {pixels.dtype}")
        self.chosen_bands(len(pixels), name)
        if self.scale is None and pixels.dtype != np.uint8:
            finite = pixels[np.isfinite(pixels)]
            found = f"values from {finite.min():g} to {finite.max():g}" if finite.size else "no finite value"
            raise InputError(
                f"{name} holds {pixels.dtype}, {found}; data.scale is null, which is for 8-bit images: train with "
                f"data.scale={PERCENTILE}, or with the range that becomes 0..1, such as data.scale=[0,10000]"
            )

    def picture(self, image: Raster) -> np.ndarray:
        """(H, W, 3) uint8 of a raw image: the first three of the chosen bands, or the first alone as grey."""
        picture, _ = self.scaled(image)
        three = picture[..., :3] if picture.shape[2] >= 3 else picture[..., [0, 0, 0]]
        return np.ascontiguousarray(three if three.dtype == np.uint8 else (three * 255 + 0.5).astype(np.uint8))

    def picture_of_input(self, pixels: Tensor) -> np.ndarray:
        """(H, W, 3) uint8 of a network's input (C, H, W): normalising undone, bands as `picture` has them."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        three = (pixels * std + mean)[[0, 1, 2] if len(pixels) >= 3 else [0, 0, 0]]
        return (three.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()


def fitted(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """An image (H, W, C) at ``shape`` (h, w), which has its proportions.

    Shrinking averages over areas, because OpenCV's bilinear filter aliases there.
    """
    method = cv2.INTER_AREA if max(shape) < max(picture.shape[:2]) else cv2.INTER_LINEAR
    resized = cv2.resize(picture, shape[::-1], interpolation=method)
    return resized.reshape(*shape, picture.shape[2])  # OpenCV drops the axis of a single band


def squashed(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """An image (H, W, C) at any ``shape`` (h, w), float32 on 0..1, as SAM 2's authors do it: antialiased."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    pixels = pixels / 255 if picture.dtype == np.uint8 else pixels
    resized = F.interpolate(pixels, shape, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def fitted_map(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map (H, W) at ``shape`` (h, w), by nearest neighbour: its values do not blend."""
    if shape == values.shape:
        return values
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def normalised(picture: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(H, W, C), uint8 on 0..255 or float32 on 0..1, -> (C, H, W) float32; ``mean`` and ``std`` are on 0..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float()
    unit = 255 if picture.dtype == np.uint8 else 1
    mean, std = (unit * torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (pixels - mean) * std.reciprocal()  # to the last bit as albumentations normalises


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the longest side at ``size``, as in segment-anything's ResizeLongestSide; at least 1."""
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_to_image(
    logits: Tensor, inner: tuple[int, int], shape: tuple[int, int], rows: slice | None = None
) -> Tensor:
    """The network's logits (C, size, size), whose ``inner`` (h, w) part at the upper left is the image's, at its own
    ``shape`` (H, W), bilinear: (C, H, W).

    ``rows`` (start and stop given) asks for those rows of the answer alone, (C, stop - start, W), so that a large image
    need not be held in logits.
    """
    height, width = shape
    inner_height, inner_width = inner
    logits = logits[:, :inner_height, :inner_width].float()
    if inner == (height, width):
        return logits if rows is None else logits[:, rows]
    if rows is None:
        return F.interpolate(logits[None], size=shape, mode="bilinear", align_corners=False)[0]
    # F.interpolate cannot answer for a part, so the rows are interpolated by hand (pixel centres, as it does) ...
    centre = torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5  # on the CPU: Apple's GPUs have no float64
    y = (centre * (inner_height / height) - 0.5).clamp(0, inner_height - 1)
    above = y.long()
    below = (above + 1).clamp(max=inner_height - 1)
    above, below, part = (x.to(logits.device) for x in (above, below, (y - above).float()))
    lines = torch.lerp(logits[:, above], logits[:, below], part[:, None])
    # ... and the columns by it.
    return F.interpolate(lines[None], size=(len(y), width), mode="bilinear", align_corners=False)[0]
