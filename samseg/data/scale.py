"""`data.scale=percentile`: which values of the training images become 0 and 1."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.common.files import READERS
from samseg.data.config import DataConfig, open_source
from samseg.data.preprocess import PERCENTILE, Preprocessing
from samseg.data.sources import Source

SAMPLED = 10_000  # pixels of an image
TOGETHER = 10_000_000  # pixels of all images
VARIED = 16  # so many values besides it there are where one of them may stand for no data
SENTINELS = 0.001  # of the pixels hold a value that may stand for no data, at least
PERCENTILES = (2, 98)  # as most viewers of satellite images stretch them


def measured_scale(data: DataConfig) -> list[list[float]]:
    """What ``data.scale=percentile`` stands for: each chosen band's 2nd and 98th percentile over the training images.

    Up to `SAMPLED` pixels of an image are looked at, evenly spread over it, those without data left out.
    """
    source = open_source(data, "train")
    most = max(100, min(SAMPLED, TOGETHER // len(source.names)))
    with ThreadPoolExecutor(READERS) as pool:
        samples = pool.map(lambda name: _sample(source, name, data.preprocessing, most), source.names)
        bar = tqdm(samples, "measuring data.scale", len(source.names), unit="image", leave=False, disable=None)
        samples = list(bar)
    values = np.concatenate(samples, axis=1)
    if not values.size:
        raise InputError(f"data.scale={PERCENTILE}: no pixel of the training images holds data")
    for band, values_of_band in enumerate(values):
        _ask_about_sentinel(values_of_band, band, [sample[band] for sample in samples], source)
    found = np.percentile(values, PERCENTILES, axis=1).T
    scale = [[float(f"{value:.6g}") for value in band] for band in found]
    return [[low, high if high > low else low + 1] for low, high in scale]


def _ask_about_sentinel(values: np.ndarray, band: int, by_image: list[np.ndarray], source: Source) -> None:
    """InputError where many pixels hold one value that is farther from all others than these are from each other."""
    found, counts = np.unique(values, return_counts=True)
    for value, count, others in ((found[0], counts[0], found[1:]), (found[-1], counts[-1], found[:-1])):
        if len(others) < VARIED or count < SENTINELS * values.size:
            continue
        low, high = float(others[0]), float(others[-1])
        if max(low - value, value - high) > high - low:
            name = next(name for name, sample in zip(source.names, by_image, strict=True) if value in sample)
            raise InputError(
                f"data.scale={PERCENTILE}: {100 * count / values.size:.2g} % of the pixels hold {value:g} "
                f"(band {band + 1} of those used, as in {source.image_file(name)}), far from all others, {low:g} to "
                f"{high:g}; if it stands for no data, say so in the files (gdal_edit -a_nodata {value:g}), else give "
                f"the range in numbers, data.scale=[{low:g},{high:g}]"
            )


def _sample(source: Source, name: str, preprocessing: Preprocessing, most: int) -> np.ndarray:
    """(bands, up to ``most``) values."""
    pixels, valid = source.image(name)
    pixels = pixels[preprocessing.chosen_bands(len(pixels), source.image_file(name))].reshape(
        preprocessing.channels, -1
    )
    step = max(1, -(-pixels.shape[1] // most))
    pixels = pixels[:, ::step].astype(np.float64)
    kept = np.isfinite(pixels).all(0)
    return pixels[:, kept if valid is None else kept & valid.ravel()[::step]]
