"""Checks before hours of computing: names, bands, values, resolution."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from samseg.common.errors import InputError
from samseg.data.config import DataConfig, split_images
from samseg.data.formats.georaster import RasterFile
from samseg.data.preprocess import Preprocessing
from samseg.inference.each import check_stems
from samseg.maps.options import MapOptions
from samseg.maps.parts.plan import Box

LOOKED_AT = 8, 64  # windows along each side, and pixels of a window, that stand for the whole raster
UNSEEN = 3 / 64  # of a raster may well hold data when no window does
FAR = 0.5  # of the values outside the run's range are worth a warning
OTHER_SCALE = 1.3  # times the resolution of training is worth one, too


def check_resolution(raster: RasterFile, data: DataConfig) -> None:
    """Warn of a raster that shows the ground larger or smaller than the maps that the run was trained on."""
    trained = data.maps.resolution
    if data.source == "maps" and trained is None:
        with suppress(InputError), RasterFile(split_images(data, "train")[0]) as first:  # if it is still there
            trained = first.resolution
    here = raster.resolution
    if data.source == "maps" and trained and here and not 1 / OTHER_SCALE < here / trained < OTHER_SCALE:
        warnings.warn(
            f"{raster.path} has {here:.3g} m a pixel, and the run was trained at {trained:.3g}: try --resolution "
            f"{trained:.3g}",
            stacklevel=2,
        )


def check_values(raster: RasterFile, preprocessing: Preprocessing) -> None:
    """Raise InputError for values that the run is not for at all; warn of values far from those of training."""
    samples = []
    for window in _windows(raster.shape):
        try:
            pixels, valid = raster.read(*window)
        except InputError:
            continue  # damaged: told with the window when its turn comes
        preprocessing.check_pixels(pixels, raster.path)
        samples.append(pixels[:, valid])
    if preprocessing.scale is None or not samples or not (values := np.concatenate(samples, axis=1)).size:
        return
    low, high = np.array(preprocessing.ranges).T[:, : len(values), None]
    outside = (values < low - (high - low)) | (values > high + (high - low))
    if outside.mean() > FAR:
        warnings.warn(
            f"{raster.path}: values from {values.min():g} to {values.max():g}, far outside what the run was "
            f"trained on (data.scale={preprocessing.scale}): are its units others?",
            stacklevel=2,
        )


def share_of_data(raster: RasterFile, within: Callable[[Box], np.ndarray] | None = None) -> float:
    """About how much of a raster, 0 to 1, is valid and ``within`` what is wanted: an estimate from some windows."""
    shares = []
    for window in _windows(raster.shape):
        with suppress(InputError):  # damaged
            valid = raster.valid(*window)
            shares.append((valid if within is None else valid & within(window)).mean())
    return max(UNSEEN, float(np.mean(shares))) if shares else 1.0


def check_inputs(paths: list[Path], out: Path, options: MapOptions) -> None:
    """InputError for rasters that one call cannot do together.

    Of rasters of different bands one is most likely not what the run is for.
    """
    check_stems(paths, out, ".tif")
    counts: dict[Path, int] = {}
    for path in paths if options.bands is None else ():
        with suppress(InputError), RasterFile(path) as raster:  # what cannot be opened is told when its turn comes
            counts[path] = len(raster.colour_bands)
    for path, count in counts.items():
        first = next(iter(counts))
        if count != counts[first]:
            raise InputError(
                f"{path} has {count} bands and {first} has {counts[first]}; say which are used with --bands, or give "
                "them to two calls"
            )


def _windows(shape: tuple[int, int]) -> Iterator[Box]:
    """Windows all over a raster, or as many as it holds."""
    count, side = LOOKED_AT
    tops, lefts = ({int(at) for at in np.linspace(0, max(0, length - side), count)} for length in shape)
    for top in sorted(tops):
        for left in sorted(lefts):
            yield Box(top, left, min(side, shape[0]), min(side, shape[1]))
