"""Simulated prompts, checked pixel by pixel."""

import numpy as np
import pytest
import torch

from samseg.models.sam.simulate import (
    NEGATIVE,
    NO_POINT,
    POSITIVE,
    boxes_of,
    corrections,
    drawn_objects,
    evenly_drawn,
    jittered,
    random_pixels,
    rings,
    vacant_boxes,
)

EVERYWHERE = torch.ones(20, 30, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def squares(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    masks = torch.zeros(len(boxes), 20, 30, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def at(masks: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    x, y = points.long().unbind(-1)
    return masks[torch.arange(len(masks)), y, x]


def test_objects_are_drawn_without_repetition_and_small_ones_never():
    objects = torch.zeros(20, 30, dtype=torch.long)
    for number in range(1, 9):
        objects[2 * number : 2 * number + 2, :5] = number * 100  # 10 pixels each
    objects[0, :9] = 7
    draws = [drawn_objects(objects, 10, 3).tolist() for _ in range(30)]
    assert all(len(set(draw)) == 3 for draw in draws)
    assert {number for draw in draws for number in draw} == set(range(100, 900, 100))
    assert sorted(drawn_objects(objects, 9, None).tolist()) == [7, *range(100, 900, 100)]
    assert drawn_objects(objects, 11, 3).tolist() == []


@pytest.mark.parametrize(
    "count, most, drawn",
    [
        (9, 3, [2, 5, 8]),
        (7, 3, [2, 4, 6]),
        (4, 3, [1, 3, 4]),
        (2, 1, [2]),
        (3, 3, [1, 2, 3]),
        (2, 3, [1, 2]),
        (0, 3, []),
    ],
)
def test_objects_to_measure_are_not_the_first_and_the_last(count, most, drawn):
    """Those lie at the image's edges, where objects are cut off."""
    objects = torch.arange(1, count + 1).repeat_interleave(10).reshape(-1, 10)
    assert evenly_drawn(objects, 10, most).tolist() == drawn
    assert evenly_drawn(objects, 10, None).tolist() == list(range(1, count + 1))
    assert evenly_drawn(objects, 11, most).tolist() == []


def test_boxes_end_behind_the_last_pixel():
    masks = squares((3, 4, 10, 6), (0, 0, 30, 20), (29, 19, 30, 20))
    assert boxes_of(masks).tolist() == [[3, 4, 10, 6], [0, 0, 30, 20], [29, 19, 30, 20]]
    ragged = torch.rand(50, 20, 30) < 0.01
    ragged[:, 7, 11] = True
    for mask, box in zip(ragged, boxes_of(ragged).tolist(), strict=True):
        y, x = np.nonzero(mask.numpy())
        assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_jitter_pushes_each_side_out_by_up_to_its_share_and_stays_within_the_image():
    box = torch.tensor([[10.0, 5.0, 20.0, 9.0]]).repeat(2000, 1)
    out = jittered(box, 0.1, 20, 30)
    pushed = (out - box) * torch.tensor([-1, -1, 1, 1])
    for side, most in enumerate((1.0, 0.4, 1.0, 0.4)):
        assert 0 <= pushed[:, side].min() < 0.05 * most and 0.95 * most < pushed[:, side].max() <= most
    assert torch.corrcoef(pushed.T).triu(1).abs().max() < 0.1  # each side by itself
    whole = jittered(torch.tensor([[0.0, 0.0, 30.0, 20.0]]), 0.5, 20, 30)
    assert whole.tolist() == [[0, 0, 30, 20]]


def test_a_random_pixel_is_any_of_the_region_as_likely_as_the_others():
    region = squares((4, 6, 7, 8)).repeat(6000, 1, 1)
    points, found = random_pixels(region)
    assert found.all() and at(region, points).all()
    _, counts = points.unique(dim=0, return_counts=True)
    assert len(counts) == 6 and counts.min() > 850 and counts.max() < 1150
    assert not random_pixels(torch.zeros(1, 20, 30, dtype=torch.bool))[1].any()


@pytest.mark.parametrize("box", [(5, 5, 12, 9), (0, 0, 8, 8), (26, 17, 30, 20), (0, 4, 30, 6)])
def test_rings_are_what_lies_up_to_three_pixels_outside_the_box(box):
    left, top, right, bottom = box
    ring = rings(squares(box), 3)[0]
    for y in range(20):
        for x in range(30):
            far = max(left - x, x - (right - 1), top - y, y - (bottom - 1))
            assert ring[y, x] == (1 <= far <= 3)


def test_corrections_lie_in_what_is_lacking_and_what_is_too_much():
    truth = squares((5, 5, 15, 15)).repeat(300, 1, 1)
    answer = squares((8, 5, 22, 15)).repeat(300, 1, 1)
    points, labels = corrections(truth, answer, EVERYWHERE, ring=3)
    assert points.shape == (300, 2, 2) and labels.tolist() == [[POSITIVE, NEGATIVE]] * 300
    assert at(truth & ~answer, points[:, 0]).all() and at(answer & ~truth, points[:, 1]).all()
    valid = EVERYWHERE.clone()
    valid[:, 16:] = False  # not known there: no reason to correct
    assert points[:, 1, 0].max() > 16
    assert corrections(truth, answer, valid, ring=3)[0][:, 1, 0].max() == 15


def test_a_right_answer_is_confirmed_within_and_the_negative_point_is_of_the_ring():
    truth = squares((5, 5, 15, 15)).repeat(300, 1, 1)
    points, labels = corrections(truth, truth, EVERYWHERE, ring=3)
    assert at(truth, points[:, 0]).all() and at(rings(truth, 3), points[:, 1]).all()
    whole = squares((0, 0, 30, 20))
    assert corrections(whole, whole, EVERYWHERE, ring=3)[1].tolist() == [[POSITIVE, NO_POINT]]


def test_a_place_without_an_object_is_found_where_there_is_room():
    boxes = torch.tensor([[0.0, 0, 7, 5], [3, 3, 4, 4], [0, 0, 40, 30]])
    free = torch.ones(30, 40, dtype=torch.bool)
    free[:, :30] = False  # room for the first two alone
    found, vacant = vacant_boxes(boxes, free)
    assert vacant.tolist() == [True, True, False]
    assert torch.equal(found[:, 2:] - found[:, :2], boxes[:, 2:] - boxes[:, :2])  # the same extents, within the image
    for (left, top, right, bottom), empty in zip(found.long().tolist(), vacant.tolist(), strict=True):
        assert 0 <= left and right <= 40 and 0 <= top and bottom <= 30
        assert free[top:bottom, left:right].all() == empty
    places, _ = vacant_boxes(boxes[1:2].repeat(300, 1), free)
    assert places[:, 0].unique().numel() > 5 and places[:, 3].max() == 30  # anywhere, to the edges
