"""Which found and true objects are one, and what is counted of it."""

import numpy as np
import pytest

from samseg.tasks.matching import Matches, match, partners, table


def random_map(generator) -> np.ndarray:
    numbers = np.zeros((30, 40), np.int32)
    for number in range(1, 9):
        y, x = generator.integers(0, 25), generator.integers(0, 35)
        numbers[y : y + generator.integers(2, 9), x : x + generator.integers(2, 9)] = number
    return numbers


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_matching_by_brute_force(seed, threshold):
    generator = np.random.default_rng(seed)
    true = random_map(generator)
    found = np.roll(true, seed % 3, axis=1)
    found[found == 2] = 0
    found[25:, 30:] = 77
    ious = []
    for one in set(found.ravel().tolist()) - {0}:
        for other in set(true.ravel().tolist()) - {0}:
            a, b = found == one, true == other
            iou = (a & b).sum() / (a | b).sum()
            if iou >= threshold:
                ious.append(iou)
    objects, truths = len(np.unique(found[found > 0])), len(np.unique(true[true > 0]))
    result = match(found, true, threshold)
    assert (result.found, result.wrong, result.missed) == (len(ious), objects - len(ious), truths - len(ious))
    assert result.ap == pytest.approx(len(ious) / (objects + truths - len(ious)))
    assert result.mean_iou == (pytest.approx(np.mean(ious)) if ious else None)


def test_matches_add_up():
    true = random_map(np.random.default_rng(0))
    empty = np.zeros_like(true)
    perfect, nothing = match(true, true), match(empty, true)
    assert perfect.ap == 1 and perfect.mean_iou == 1 and nothing.ap == 0 and nothing.mean_iou is None
    assert (perfect + nothing).ap == 0.5 and (perfect + nothing).mean_iou == 1
    assert match(empty, empty).ap is None and sum([perfect, nothing], Matches()) == perfect + nothing


def test_half_is_enough_and_each_has_one_partner():
    found, true = np.zeros((4, 10), int), np.zeros((4, 10), int)
    found[0], true[0, :5], true[0, 5:] = 70000, 3, 4  # exactly a half of both
    found[2, :4], true[2, 1:4] = 5, 9
    assert partners(found, true) == {70000: (3, 0.5), 5: (9, 0.75)}
    assert partners(found, true, 0.6) == {5: (9, 0.75)}
    assert match(true, found) == Matches(2, 1, 0, 1.25)


def test_figures_and_their_table():
    row = Matches(found=3, wrong=1, missed=2, iou=2.4).figures()
    assert (row["precision"], row["recall"], row["f1"], row["ap"]) == (3 / 4, 3 / 5, 6 / 9, 3 / 6)
    assert row["mean_iou"] == pytest.approx(0.8) and set(Matches().figures().values()) == {0, None}
    lines = table({"way": "amg", "classes": {"cell": row, "rest": Matches().figures()}}).splitlines()
    assert lines[0].startswith("objects (amg) at IoU 0.5")
    assert lines[1].split() == ["cell", "0.750", "0.600", "0.667", "0.500", "0.800", "3", "2", "1"]
    assert lines[2].split() == ["rest", *"-----", "0", "0", "0"]
