"""An image as the network sees it, and the network's answer back at the image's own size.

Training, evaluation, inference, the feature cache and export all come through here: bands are chosen, their values
scaled, the image fitted or cut into tiles, normalised and padded. Between scaling and normalising an image is (H, W, C)
of uint8 on 0..255 or of float32 on 0..1, as augmentation and OpenCV take it.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.common.errors import InputError
from samseg.data.config import DataConfig
from samseg.data.raster import Raster
from samseg.data.scale import PERCENTILE, chosen_bands, ranges


def network_view(image: Raster, data: DataConfig, name: object = "image") -> Tensor:
    """The whole image, raw (C, H, W), as the network's input (bands, S, S) float32, S = ``data.image_size``.

    Bands are chosen and scaled (``data.bands``, ``data.scale``), the longest side is resized to S, values are
    normalised (``data.mean`` and ``data.std`` on 0..1) and padded right and bottom with zeros, as in SAM. Pixels
    without data are 0. InputError, naming the image as ``name``, for bands or values that the configuration is not for.
    """
    return network_input(*fitted(*scaled(image, data, name), data.image_size), data)


def tile_view(window: Raster, data: DataConfig, name: object = "image") -> Tensor:
    """A window of an image, raw (C, h, w), h and w at most S, at its own resolution, as `network_view`."""
    return network_input(*scaled(window, data, name), data)


def scaled(image: Raster, data: DataConfig, name: object = "image") -> tuple[np.ndarray, np.ndarray | None]:
    """The chosen bands (H, W, bands), uint8 as they are or float32 on 0..1, and the valid pixels (H, W) bool or None.

    Values beyond a band's range are clipped. A pixel with a NaN in a chosen band is not valid; pixels without data have
    the mean colour, which is 0 once normalised. InputError as `network_view`.
    """
    check_pixels(image.pixels, data, name)
    pixels, valid = _chosen(image.pixels, data, name), valid_pixels(image, data, name)
    if data.scale is None:
        picture, fill = np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), np.round(255 * np.array(data.mean))
    else:
        exact = np.result_type(pixels.dtype, np.float32)  # 32 bits hold what has 16, and 64 what has more
        low, high = np.array(ranges(data), exact).T[:, :, None, None]
        picture = np.moveaxis((pixels - low) / (high - low), 0, -1).astype(np.float32, order="C")
        picture, fill = picture.clip(0, 1, out=picture), data.mean
    if valid is not None:
        picture = picture if picture.flags.writeable and picture.base is None else picture.copy()
        picture[~valid] = np.asarray(fill, picture.dtype)
    return picture, valid


def valid_pixels(image: Raster, data: DataConfig, name: object = "image") -> np.ndarray | None:
    """(H, W) bool, False for nodata and where a chosen band is no finite number; None: all pixels are valid."""
    pixels, valid = image
    if pixels.dtype.kind != "f":
        return valid
    finite = np.isfinite(_chosen(pixels, data, name)).all(0)
    if finite.all():
        return valid
    return finite if valid is None else valid & finite


def _chosen(pixels: np.ndarray, data: DataConfig, name: object) -> np.ndarray:
    """The bands (bands, H, W) that ``data`` chooses; not copied where they are the first ones."""
    bands = chosen_bands(data, len(pixels), name)
    return pixels[: len(bands)] if bands == list(range(len(bands))) else pixels[bands]


def fitted(picture: np.ndarray, valid: np.ndarray | None, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """An image (H, W, C) and its valid pixels with the longest side at ``size``.

    Shrinking averages over areas, because OpenCV's bilinear filter aliases there.
    """
    height, width = resized_shape(*picture.shape[:2], size)
    if (height, width) == picture.shape[:2]:
        return picture, valid
    method = cv2.INTER_AREA if size < max(picture.shape[:2]) else cv2.INTER_LINEAR
    smaller = cv2.resize(picture, (width, height), interpolation=method)
    smaller = smaller.reshape(height, width, picture.shape[2])  # OpenCV drops the axis of a single band
    return smaller, None if valid is None else fitted_label(valid.astype(np.uint8), size).astype(bool)


def fitted_label(label: np.ndarray, size: int) -> np.ndarray:
    """A label (H, W) with the longest side at ``size``, by nearest neighbour: labels do not blend."""
    height, width = resized_shape(*label.shape, size)
    if (height, width) == label.shape:
        return label
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def network_input(picture: np.ndarray, valid: np.ndarray | None, data: DataConfig) -> Tensor:
    """A scaled image (H, W, C), H and W at most S, normalised and padded: (C, S, S) float32, 0 where not valid."""
    pixels = normalised(picture, data.mean, data.std)
    if valid is not None:
        pixels.mul_(torch.from_numpy(valid))
    return padded(pixels, data.image_size)


def normalised(picture: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(H, W, C), uint8 on 0..255 or float32 on 0..1, -> (C, H, W) float32; ``mean`` and ``std`` are on 0..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float()
    unit = 255 if picture.dtype == np.uint8 else 1
    mean, std = (unit * torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    return (pixels - mean) * std.reciprocal()  # to the last bit as albumentations normalises


def padded(pixels: Tensor, size: int) -> Tensor:
    """(C, H, W), H and W at most ``size``, padded right and bottom with zeros to (C, size, size)."""
    return F.pad(pixels, (0, size - pixels.shape[2], 0, size - pixels.shape[1]))


def padded_label(label: np.ndarray, size: int, fill: float) -> np.ndarray:
    """(H, W), at most ``size`` a side, padded right and bottom with ``fill`` to (size, size)."""
    height, width = label.shape
    return np.pad(label, ((0, size - height), (0, size - width)), constant_values=fill)


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the longest side at ``size``, as in segment-anything's ResizeLongestSide; at least 1."""
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def shown(image: Raster, data: DataConfig) -> np.ndarray:
    """A picture (H, W, 3) uint8 of a raw image: the first three of the chosen bands, or the first alone as grey."""
    picture, _ = scaled(image, data)
    three = picture[..., :3] if picture.shape[2] >= 3 else picture[..., [0, 0, 0]]
    return np.ascontiguousarray(three if three.dtype == np.uint8 else (three * 255 + 0.5).astype(np.uint8))


def shown_input(pixels: Tensor, data: DataConfig) -> np.ndarray:
    """A picture (H, W, 3) uint8 of a network's input (C, H, W): normalising undone, bands as `shown` has them."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    three = (pixels * std + mean)[[0, 1, 2] if len(pixels) >= 3 else [0, 0, 0]]
    return (three.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()


def check_pixels(pixels: np.ndarray, data: DataConfig, name: object = "image") -> None:
    """InputError unless raw pixels are (C, H, W), hold the bands that ``data`` chooses, and are of its scale."""
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype.kind not in "uif":
        raise InputError(f"{name} must be bands (C, H, W) of numbers, got {pixels.shape} of {pixels.dtype}")
    chosen_bands(data, len(pixels), name)
    if data.scale is None and pixels.dtype != np.uint8:
        finite = pixels[np.isfinite(pixels)]
        found = f"values from {finite.min():g} to {finite.max():g}" if finite.size else "no finite value"
        raise InputError(
            f"{name} holds {pixels.dtype}, {found}; data.scale is null, which is for 8-bit images: train with "
            f"data.scale={PERCENTILE}, or with the range that becomes 0..1, such as data.scale=[0,10000]"
        )


def resize_to_image(logits: Tensor, shape: tuple[int, int], rows: slice | None = None) -> Tensor:
    """The network's logits (C, size, size) at the image's own ``shape`` (H, W): padding cut off, bilinear: (C, H, W).

    ``rows`` (start and stop given) asks for those rows of the answer alone, (C, stop - start, W), so that a large image
    need not be held in logits.
    """
    height, width = shape
    inner_height, inner_width = resized_shape(height, width, logits.shape[-1])
    inner = logits[:, :inner_height, :inner_width].float()
    if (inner_height, inner_width) == (height, width):
        return inner if rows is None else inner[:, rows]
    if rows is None:
        return F.interpolate(inner[None], size=shape, mode="bilinear", align_corners=False)[0]
    # F.interpolate cannot answer for a part, so the rows are interpolated by hand (pixel centres, as it does) ...
    centre = torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5  # on the CPU: Apple's GPUs have no float64
    y = (centre * (inner_height / height) - 0.5).clamp(0, inner_height - 1)
    above = y.long()
    below = (above + 1).clamp(max=inner_height - 1)
    above, below, part = (x.to(logits.device) for x in (above, below, (y - above).float()))
    lines = torch.lerp(inner[:, above], inner[:, below], part[:, None])
    # ... and the columns by it.
    return F.interpolate(lines[None], size=(len(y), width), mode="bilinear", align_corners=False)[0]
