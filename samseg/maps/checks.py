"""What is looked at before hours of computing: names, bands, values, resolution."""

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from samseg.data.config import DataConfig, split_images
from samseg.data.preprocess import check_pixels
from samseg.data.raster import RasterFile
from samseg.data.scale import ranges
from samseg.errors import InputError
from samseg.inference.each import check_stems
from samseg.maps.options import MapOptions

LOOKED_AT = 8, 64  # windows along each side, and pixels of a window, to compare a raster's values with the run's
FAR = 0.5  # of the values outside the run's range are worth a warning
OTHER_SCALE = 1.3  # times the resolution of training is worth one, too


def check_resolution(raster: RasterFile, data: DataConfig) -> None:
    """A warning for a raster that shows the ground larger or smaller than the maps that the run was trained on."""
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


def check_values(raster: RasterFile, data: DataConfig) -> None:
    """InputError for values that the run is not for at all; a warning for such as it has hardly seen."""
    count, side = LOOKED_AT
    height, width = raster.shape
    seen = []
    for top in np.linspace(0, max(0, height - side), count, dtype=int):
        for left in np.linspace(0, max(0, width - side), count, dtype=int):
            try:
                pixels, valid = raster.read(int(top), int(left), min(side, height), min(side, width))
            except InputError:
                continue  # damaged: told with the window when its turn comes
            check_pixels(pixels, data, raster.path)
            seen.append(pixels[:, valid])
    if data.scale is None or not seen or not (values := np.concatenate(seen, axis=1)).size:
        return
    low, high = np.array(ranges(data)).T[:, : len(values), None]
    outside = (values < low - (high - low)) | (values > high + (high - low))
    if outside.mean() > FAR:
        warnings.warn(
            f"{raster.path}: values from {values.min():g} to {values.max():g}, far outside what the run was "
            f"trained on (data.scale={data.scale}): are its units others?",
            stacklevel=2,
        )


def check_inputs(paths: list[Path], out: Path, options: MapOptions) -> None:
    """InputError for rasters that one call cannot do together."""
    check_stems(paths, out, ".tif")
    _check_bands(paths, options)


def _check_bands(paths: list[Path], options: MapOptions) -> None:
    """Rasters of different bands in one call: one of them is most likely not what the run is for."""
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
