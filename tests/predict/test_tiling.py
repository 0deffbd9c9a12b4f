from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from samseg.common.errors import InputError
from samseg.predict.tiling import TilePlan, blended_rows

TILE = 16
SIDES = [1, TILE - 1, TILE, TILE + 1, 2 * TILE - 4, 2 * TILE, 53]
OVERLAPS = [0, 1, 4, 9, TILE - 1]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def window(image: torch.Tensor, top: int, left: int) -> torch.Tensor:
    """A tile of the image (3, H, W), padded right and bottom with zeros."""
    tile = torch.zeros(3, TILE, TILE)
    part = image[:, top : top + TILE, left : left + TILE]
    tile[:, : part.shape[1], : part.shape[2]] = part
    return tile


def blended(image: torch.Tensor, predict, overlap: int, batch: int = 1) -> torch.Tensor:
    plan = TilePlan(*image.shape[1:], TILE, overlap)
    parts = list(blended_rows(plan, lambda top, left: window(image, top, left), predict, batch))
    assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
    assert all(part.shape[1] == rows.stop - rows.start for rows, part in parts)
    return torch.cat([part for _, part in parts], dim=1)


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("height", SIDES)
@pytest.mark.parametrize("width", SIDES)
def test_tiles_cover_every_pixel_and_stay_inside(height, width, overlap):
    plan = TilePlan(height, width, TILE, overlap)
    seen = np.zeros((height, width), int)
    for top, left in plan.windows:
        assert 0 <= top <= max(0, height - TILE) and 0 <= left <= max(0, width - TILE)
        seen[top : top + TILE, left : left + TILE] += 1
    assert seen.min() >= 1
    assert len(set(plan.windows)) == len(plan.windows)
    for starts in (plan.tops, plan.lefts):
        assert all(after - before <= TILE - overlap for before, after in pairwise(starts))


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 53), (53, 1), (15, 16), (17, 16), (33, 40), (53, 29)])
def test_blending_is_the_mean_weighted_by_the_distance_to_the_edge(shape, overlap):
    """Against a sum written out pixel by pixel; the answers of the tiles have nothing to do with each other."""
    plan = TilePlan(*shape, TILE, overlap)
    answers = torch.randn(len(plan.windows), 3, TILE, TILE, generator=seeded(0))
    votes = np.exp(answers.double().numpy())
    votes /= votes.sum(axis=1, keepdims=True)
    total, weights = np.zeros((3, *shape)), np.zeros(shape)
    for index, (top, left) in enumerate(plan.windows):
        for y in range(min(TILE, shape[0])):
            for x in range(min(TILE, shape[1])):
                weight = 1.0
                for place in (y, x):
                    weight *= min(place + 1, TILE - place, max(overlap, 1))
                total[:, top + y, left + x] += weight * votes[index, :, y, x]
                weights[top + y, left + x] += weight
    numbers = iter(range(len(answers)))
    rows = blended_rows(
        plan, lambda top, left: torch.full((1, 1, 1), float(next(numbers))), lambda x: answers[x.long().flatten()], 2
    )
    result = torch.cat([part for _, part in rows], dim=1)
    np.testing.assert_allclose(result.numpy(), total / weights, atol=1e-6)


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("shape", [(1, 1), (15, 17), (16, 16), (17, 16), (40, 61)])
def test_a_pixelwise_model_answers_as_if_untiled(shape, overlap):
    torch.manual_seed(0)
    model = nn.Conv2d(3, 4, 1).requires_grad_(False)
    image = torch.randn(3, *shape, generator=seeded(1))
    expected = model(image[None]).softmax(1)[0]
    for batch in (1, 3, 64):
        torch.testing.assert_close(blended(image, model, overlap, batch), expected, atol=1e-6, rtol=1e-5)


def test_overlap_hides_the_seams_of_a_model_with_context():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2)).requires_grad_(False)
    image = torch.randn(3, 70, 90, generator=seeded(2))
    expected = model(image[None]).softmax(1)[0]
    error = {overlap: (blended(image, model, overlap) - expected).abs() for overlap in (0, 8)}
    assert error[8].mean() < error[0].mean() / 2
    assert error[8].max() < error[0].max() * 0.6


def test_rows_are_handed_out_before_later_tiles_are_read():
    """So a map can be classified without holding its class scores: one band of tiles at a time."""
    read = []
    plan = TilePlan(10 * TILE, 3 * TILE, TILE, 4)

    def reader(top: int, left: int) -> torch.Tensor:
        read.append(top)
        return torch.zeros(3, TILE, TILE)

    stops = []
    for rows, part in blended_rows(plan, reader, lambda tiles: tiles, batch=1):
        assert set(read) == {top for top in plan.tops if top <= rows.start}
        assert part.shape[1] <= TILE
        stops.append(rows.stop)
    assert stops[-1] == plan.height and len(stops) == len(plan.tops)


def test_rows_handed_out_do_not_change_afterwards():
    image = torch.randn(3, 50, 20, generator=seeded(3))
    plan = TilePlan(50, 20, TILE, 6)
    kept = [
        (part, part.clone())
        for _, part in blended_rows(plan, lambda top, left: window(image, top, left), lambda tiles: tiles)
    ]
    assert all(torch.equal(part, copy) for part, copy in kept)


@pytest.mark.parametrize("overlap", [-1, TILE, TILE + 5])
def test_overlap_of_a_whole_tile_or_less_than_none_is_refused(overlap):
    with pytest.raises(InputError, match=f"0 to {TILE - 1} px.*got {overlap}"):
        TilePlan(64, 64, TILE, overlap)
