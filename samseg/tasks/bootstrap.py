"""How sure a figure is: confidence intervals by the bootstrap over images (Efron, 1979).

A test set is a draw of images. Drawing as many of them again, with replacement, many times over, shows how much a
figure would move had the draw been another. Pixels of one image are no independent draws, so images are drawn, never
pixels; and two runs are compared on the same draws, since an image that is hard for one is often hard for the other.
"""

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
BOOTSTRAP = "95 % confidence intervals in brackets: bootstrap over images"


def draws(images: int) -> np.ndarray:
    """(RESAMPLES, images): how often each image is in each draw; the same at every call."""
    generator = np.random.default_rng(0)
    return generator.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The bounds of the middle 95 % of a figure's samples (RESAMPLES,), among those draws that have it."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def with_bounds(value: float, bounds: tuple[float, float] | None, style: str = ".3f") -> str:
    """ "0.812 [0.790, 0.833]", or the value alone."""
    return f"{value:{style}}" + (f" [{bounds[0]:{style}}, {bounds[1]:{style}}]" if bounds else "")
