"""An image as it is stored, whatever it was read from, and a part of it."""

from typing import NamedTuple

import numpy as np

from samseg.common.errors import InputError

Window = tuple[int, int, int, int]  # top, left, height, width in pixels, within the image


class Raster(NamedTuple):
    """Pixels as they are stored, (C, H, W) of any dtype; ``valid`` (H, W) bool is False for nodata, None: none is."""

    pixels: np.ndarray
    valid: np.ndarray | None = None

    def crop(self, window: Window | None) -> "Raster":
        """A window of it, which ends at its right and bottom edges."""
        return Raster(crop(self.pixels, window), None if self.valid is None else crop(self.valid, window))


def as_raster(image: Raster | np.ndarray) -> Raster:
    """A raster as it is; an array, which is (H, W, C) or (H, W), as a raster. InputError for other arrays."""
    if isinstance(image, Raster):
        return image
    if image.ndim not in (2, 3):
        raise InputError(f"image must be an array (H, W, bands) or (H, W), got {image.shape}")
    return Raster(as_bands(image))


def as_bands(pixels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) -> (C, H, W)."""
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def pixels_with_data(pixels: np.ndarray, nodata: float | None, visible: np.ndarray | None = None) -> np.ndarray | None:
    """Which pixels (C, H, W) hold data, (H, W) bool; None: all do.

    Those do not where ``visible`` (H, W) is False, nor where all bands hold ``nodata``; or any, for floating point,
    whose nodata are values such as -9999 that no network should see.
    """
    valid = visible
    if nodata is not None:
        differs = pixels != nodata
        holds = differs.all(0) if pixels.dtype.kind == "f" else differs.any(0)
        valid = holds if visible is None else visible & holds
    return None if valid is None or valid.all() else valid


def as_picture(image: Raster) -> np.ndarray:
    """(H, W, 3) uint8 to look at: the first three bands, or the first as grey; what is not 8 bits by its 2 to 98 %."""
    bands = image.pixels[:3] if len(image.pixels) >= 3 else image.pixels[[0, 0, 0]]
    if bands.dtype != np.uint8:
        finite = bands[np.isfinite(bands) & (True if image.valid is None else image.valid)]
        low, high = np.percentile(finite, [2, 98]) if finite.size else (0, 1)
        bands = (np.nan_to_num((bands - low) / max(high - low, 1e-9)).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(bands, 0, -1))


def crop(array: np.ndarray, window: Window | None) -> np.ndarray:
    """A window of an array (..., H, W)."""
    return array[(..., *rows_and_columns(window))]


def rows_and_columns(window: Window | None) -> tuple[slice, slice]:
    """What a window is in an array (H, W, ...); None: all of it."""
    if window is None:
        return slice(None), slice(None)
    top, left, height, width = window
    return slice(top, top + height), slice(left, left + width)
