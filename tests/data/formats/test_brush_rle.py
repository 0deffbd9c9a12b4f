"""Brush strokes as Label Studio writes them, against its own library where that is installed."""

import numpy as np
import pytest

from samseg.data.formats.brush_rle import decode, encode
from tests.data.exports import brush

# What label_studio_sdk 2.1.2's brush.mask2rle gives for a mask of 3 x 5 pixels, 255 in its second row and last column.
WRITTEN = [0, 0, 0, 60, 57, 27, 253, 240, 12, 47, 255, 124, 2, 63, 240]


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    large = np.zeros((300, 211), bool)
    large[40:200, 30:150] = True
    return [
        np.zeros((3, 5), bool),
        np.ones((4, 4), bool),
        rng.random((13, 17)) > 0.5,
        rng.random((40, 9)) > 0.97,
        large,
    ]


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: str(mask.shape))
def test_runs_and_literals_are_read_exactly(mask):
    pixels = np.repeat(mask[..., None] * np.uint8(255), 4, axis=2)
    for written in (brush(mask), encode(mask)):
        assert np.array_equal(decode(written, mask.size * 4).reshape(*mask.shape, 4), pixels)


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: str(mask.shape))
def test_label_studios_own_library_writes_and_reads_the_same(mask):
    theirs = pytest.importorskip("label_studio_sdk.converter.brush", exc_type=ImportError)
    written = theirs.mask2rle(mask.astype(np.uint8) * 255)
    assert np.array_equal(decode(written, mask.size * 4), theirs.decode_rle(written))
    assert np.array_equal(decode(written, mask.size * 4).reshape(*mask.shape, 4)[..., 3] > 0, mask)
    assert np.array_equal(theirs.decode_rle(brush(mask)), decode(brush(mask), mask.size * 4))
    assert np.array_equal(theirs.decode_rle(encode(mask)), decode(brush(mask), mask.size * 4))


def test_what_its_library_wrote_is_read_exactly():
    mask = np.zeros((3, 5), np.uint8)
    mask[1] = mask[:, 4] = 255
    assert np.array_equal(decode(WRITTEN, 60).reshape(3, 5, 4), np.repeat(mask[..., None], 4, axis=2))


@pytest.mark.parametrize("numbers", [[], [0, 0, 0, 60], brush(np.ones((3, 5), bool))[:-1], [300], ["a"]])
def test_what_is_no_encoding_is_a_value_error(numbers):
    with pytest.raises((ValueError, OverflowError)):
        decode(numbers, 60)


def test_the_count_must_be_the_images():
    with pytest.raises(ValueError, match="the encoding is of 60 numbers, the image has 64"):
        decode(brush(np.ones((3, 5), bool)), 64)
