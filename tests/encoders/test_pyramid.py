"""The pyramid's products against the convolutions that they stand for."""

import pytest
import torch
import torch.nn.functional as F

from samseg.encoders.pyramid import Merge, Projection, Pyramid, Spread, details_of_levels


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


@pytest.mark.parametrize(
    "strides, expected",
    [
        ([16, 16, 16, 16, 16], [0, 1, 2, 3]),  # a plain ViT's four taps and neck
        ([2, 4, 8, 16, 16], [0, 1, 2, 3]),  # TinyViT's
        ([4, 8, 16, 32, 16], [0, 0, 1, 2]),  # a hierarchical transformer's stages
        ([16, 16, 16], [0, 0, 0, 1]),  # fewer maps than levels
        ([4, 4], [0, 0, 0, 0]),  # finer ones than levels
        ([32, 32], [0, 0, 0, 0]),
    ],
)
def test_levels_take_the_maps_that_are_there(strides, expected):
    assert details_of_levels(strides) == expected
    channels = list(range(6, 6 + len(strides)))
    for depth, output_stride in ((5, 32), (5, 16), (4, 8), (3, 32), (1, 8)):
        pyramid = Pyramid(channels, strides, depth, output_stride)
        taps = [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(channels, strides)]
        maps = pyramid(taps)
        wanted = [min(2 ** (i + 1), output_stride) for i in range(depth)]
        assert [tuple(x.shape[2:]) for x in maps] == [(64 // stride, 96 // stride) for stride in wanted]
        maps[-1].sum().backward()
        assert all(parameter.grad is not None for parameter in pyramid.parameters())
