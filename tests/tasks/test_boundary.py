"""Border pixels beside a count of every pair of pixels."""

import numpy as np
import pytest

from samseg.tasks.boundary import TOLERANCE_PX, boundary_counts, boundary_f1


def border_pixels(labels, index):
    """Pixels of a class with a neighbour of another, one after another; 255 and the edge are no neighbours."""
    height, width = labels.shape
    found = []
    for y, x in zip(*np.nonzero(labels == index), strict=True):
        for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inside = 0 <= y + dy < height and 0 <= x + dx < width
            if inside and labels[y + dy, x + dx] not in (index, 255):
                found.append((y, x))
                break
    return found


def near(pixels, others):
    return sum(any((y - v) ** 2 + (x - u) ** 2 <= TOLERANCE_PX**2 for v, u in others) for y, x in pixels)


@pytest.mark.parametrize("shape", [(12, 19), (1, 9), (9, 1), (1, 1)])
def test_every_pair_of_border_pixels(shape):
    generator = np.random.default_rng(sum(shape))
    truth = (
        generator.integers(0, 3, (-(-shape[0] // 4), -(-shape[1] // 4)))
        .repeat(4, 0)
        .repeat(4, 1)[: shape[0], : shape[1]]
    )
    prediction = np.roll(truth, (1, 2), (0, 1)).astype(np.uint8)
    truth = np.where(generator.random(shape) < 0.1, 255, truth)
    counts = boundary_counts(prediction, truth, 4)
    seen = np.where(truth == 255, 255, prediction)
    for index in range(4):
        found, true = border_pixels(seen, index), border_pixels(truth, index)
        assert counts[index].tolist() == [len(found), near(found, true), len(true), near(true, found)]


def test_f1_of_a_square_that_is_moved():
    truth = np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 1
    assert boundary_f1(boundary_counts(truth, truth, 2)).tolist() == [1, 1]
    assert boundary_f1(boundary_counts(np.roll(truth, 2, 1), truth, 2))[1] == 1
    assert 0 < boundary_f1(boundary_counts(np.roll(truth, 5, 1), truth, 2))[1] < 1
    assert boundary_f1(boundary_counts(np.zeros_like(truth), truth, 2)).tolist() == [0, 0]
    assert np.isnan(boundary_f1(boundary_counts(truth * 0, truth * 0, 2))).all()
