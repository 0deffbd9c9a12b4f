"""COCO's polygons and run lengths as RLE that fits its image: what pycocotools' C code is given, it believes."""

from typing import Any

import numpy as np
from pycocotools import mask as rle

from samseg.common.errors import InputError

LETTERS = 7  # at most, of a number in compressed counts: 35 bits


def as_rle(segmentation: Any, shape: tuple[int, int], where: str) -> dict[str, Any]:
    """The compressed RLE of an annotation's ``segmentation`` on an image of ``shape`` (H, W), for pycocotools.

    Parts of a polygon that have fewer than three points, stray clicks, cover nothing and are left out, unless there is
    nothing else. Raises InputError, which begins with ``where``, for anything that is not of such an image.
    """
    if isinstance(segmentation, dict):
        return _checked_counts(segmentation, shape, where)
    parts = segmentation if isinstance(segmentation, list) else []
    polygons = [_checked_polygon(part, shape, where) for part in parts if not is_stray(part)]
    if not polygons:
        raise InputError(f"{where} has no polygon of three points or more, and no RLE; draw or remove it")
    if max(map(max, polygons)) <= 1 < min(shape):
        raise InputError(
            f"{where} has coordinates from 0 to 1 alone, and COCO's are pixels: multiply x by the image's width "
            f"({shape[1]}) and y by its height ({shape[0]})"
        )
    return rle.merge(rle.frPyObjects(polygons, *shape))


def mask_rle(mask: np.ndarray) -> dict[str, Any]:
    """The compressed RLE of a mask (H, W) of booleans, as COCO's files have it."""
    return as_json(rle.encode(np.asfortranarray(mask, dtype=np.uint8)))


def as_json(encoded: dict[str, Any]) -> dict[str, Any]:
    """pycocotools' RLE as COCO's files have it: its counts are text."""
    return encoded | {"counts": encoded["counts"].decode()}


def is_stray(part: Any) -> bool:
    """Whether a part of a polygon, [x, y, x, y ...], has fewer than three points."""
    return isinstance(part, list) and len(part) < 6


def _checked_polygon(part: Any, shape: tuple[int, int], where: str) -> list[float]:
    try:
        points = np.array(part)
    except ValueError:  # lists of different lengths
        points = np.array(None)
    if points.ndim != 1 or points.dtype.kind not in "iuf" or len(points) % 2:
        raise InputError(f"{where} cannot be read: a polygon is a list of numbers, [x, y, x, y, ...], in a list")
    height, width = shape
    far = max(shape)  # pycocotools takes memory for each pixel of an outline, also outside of the image
    x, y = points[0::2], points[1::2]
    beyond = ~((x >= -far) & (x <= width + far) & (y >= -far) & (y <= height + far))  # true for NaN as well
    if beyond.any():
        first = np.argmax(beyond)
        raise InputError(
            f"{where} has the point ({x[first]:g}, {y[first]:g}), far outside of its image of {width} x {height} "
            "pixels; correct or remove it"
        )
    return part


def _checked_counts(segmentation: dict[str, Any], shape: tuple[int, int], where: str) -> dict[str, Any]:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(shape):
        raise InputError(f"{where} is an RLE of size {size}, but the image is {list(shape)} (height, width)")
    runs = _runs(counts)
    if runs is None or runs.min(initial=0) < 0:
        raise InputError(f"{where} cannot be read: an RLE's counts are whole numbers from 0, or those as COCO's text")
    if (total := sum(runs.tolist())) != shape[0] * shape[1]:
        raise InputError(
            f"{where} is an RLE of {total} pixels, but its size says {shape[0]} x {shape[1]} = "
            f"{shape[0] * shape[1]}: it is of another image, or was cut off; encode it anew"
        )
    return rle.frPyObjects(segmentation, *shape) if isinstance(counts, list) else segmentation


def _runs(counts: Any) -> np.ndarray | None:
    """The lengths of runs, int64, of RLE's ``counts``, plain or compressed; None for what is neither."""
    if isinstance(counts, list):
        runs = np.array(counts) if all(type(count) is int for count in counts) else np.array(None)
        return runs if runs.ndim == 1 and runs.dtype.kind == "i" else None
    if not isinstance(counts, str) or not counts.isascii():
        return None
    # A number is letters of 5 bits, the lowest first, each with 48 added and another 32 where one more follows; the
    # last one's highest bit is the sign. From the fourth on a number is the difference to the one two before it.
    letters = np.frombuffer(counts.encode(), np.uint8).astype(np.int64) - 48
    if letters.min(initial=0) < 0 or letters.max(initial=0) > 63 or (len(letters) and letters[-1] & 32):
        return None
    ends = np.flatnonzero(letters < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1 if len(ends) else ends
    if lengths.max(initial=0) > LETTERS:
        return None
    place = np.arange(len(letters)) - np.repeat(starts[: len(ends)], lengths)
    runs = np.add.reduceat((letters & 31) << 5 * place, starts) if len(ends) else ends
    runs -= np.where(letters[ends] & 16, 1 << 5 * lengths, 0)
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs
