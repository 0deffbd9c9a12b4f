"""The colours that Pascal VOC, and tools after it, give to the numbers of classes and objects.

Bit 3 b + c of a number is bit 7 - b of channel c.
"""

import numpy as np


def colour(number: int) -> list[int]:
    """The colour [r, g, b] of a number below 2**24."""
    return [sum(((number >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]


def numbers(colours: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) uint8 -> the numbers (H, W) int32 that they stand for."""
    channels = [colours[..., channel].astype(np.int32) for channel in range(3)]
    return sum(((channels[bit % 3] >> (7 - bit // 3)) & 1) << bit for bit in range(24))
