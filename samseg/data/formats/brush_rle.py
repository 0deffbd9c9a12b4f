"""Label Studio's run-length encoding of brush strokes: bits, as thi.ng's rle-pack writes them."""

import numpy as np

CHANNELS = 4  # of a pixel: red, green, blue and opacity, all 255 where it is painted
SIZES = (4, 8, 12, 16)  # bits of the lengths that `encode` writes


def decode(numbers: list[int], count: int) -> np.ndarray:
    """The bytes of an encoding -> the ``count`` words that it holds, (N,) uint8. ValueError for any other bytes.

    32 bits say how many words there are, 5 how long one is, and 4 each how long the lengths of four kinds of runs are.
    Then comes run after run: 1 bit, whether a word is repeated or several follow; 2 bits, the kind; the length; words.
    """
    bits = np.unpackbits(np.asarray(numbers, dtype=np.uint8))
    at = 0

    def read(size: int, words: int = 1) -> np.ndarray:
        nonlocal at
        if at + size * words > len(bits):
            raise ValueError("the encoding ends too early")
        found = bits[at : at + size * words].reshape(words, size)
        at += size * words
        return found @ (1 << np.arange(size)[::-1])

    if (found := int(read(32)[0])) != count:
        raise ValueError(f"the encoding is of {found} numbers, the image has {count}")
    size = int(read(5)[0]) + 1
    lengths = read(4, 4) + 1
    parts, left = [np.empty(0, np.uint8)], count
    while left > 0:
        repeated = bool(read(1)[0])
        length = int(read(int(lengths[read(2)[0]]))[0]) + 1
        parts.append((np.repeat(read(size), length) if repeated else read(size, length)).astype(np.uint8))
        left -= length
    return np.concatenate(parts)[:count]


def encode(mask: np.ndarray) -> list[int]:
    """The bytes of the encoding of a mask (H, W) bool, every run of pixels in the shortest form that holds it."""
    flat = mask.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    bits = [f"{CHANNELS * flat.size:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        left, value = CHANNELS * (stop - start), 255 * int(flat[start])
        while left > 0:
            length = min(left, 2 ** SIZES[-1])
            kind = next(kind for kind, size in enumerate(SIZES) if length <= 2**size)
            bits.append(f"1{kind:02b}{length - 1:0{SIZES[kind]}b}{value:08b}")
            left -= length
    return np.packbits(np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")).tolist()
