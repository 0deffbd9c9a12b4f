"""The pyramid's products against the convolutions that they stand for."""

import pytest
import torch
import torch.nn.functional as F

from samseg.encoders.pyramid import Merge, Projection, Spread


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["channels first", "channels last"])
def maps(request) -> torch.Tensor:
    return torch.randn(2, 6, 5, 7).to(memory_format=request.param)


def test_projection(maps):
    projection = Projection(6, 4)
    torch.testing.assert_close(projection(maps), F.conv2d(maps, projection.weight))


def test_spread(maps):
    spread = Spread(6, 4, 3)
    torch.testing.assert_close(spread(maps), F.pixel_shuffle(F.conv2d(maps, spread.weight), 3))


def test_merge(maps):
    merge = Merge(6, 4)
    torch.testing.assert_close(merge(maps), F.conv2d(F.pad(maps, [0, 1, 0, 1]), merge.weight, stride=2))


def test_merge_on_the_same_grid_takes_each_pixel_for_four(maps):
    merge = Merge(6, 4)
    merge.step = 1
    fourfold = F.interpolate(maps, scale_factor=2.0, mode="nearest")
    torch.testing.assert_close(merge(maps), F.conv2d(fourfold, merge.weight, stride=2))
