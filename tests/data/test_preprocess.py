import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide

from samseg.data.config import DataConfig
from samseg.data.images import as_raster
from samseg.data.preprocess import network_view, own_size, resized_shape
from tests.data.arrays import training_item

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CONFIG = DataConfig(classes={"a": 0}, image_size=64)
SHAPES = [(1, 1), (1, 64), (63, 64), (64, 63), (64, 64), (65, 64), (200, 31), (5, 3), (4000, 3), (3, 4000)]


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def view_of(image: np.ndarray) -> torch.Tensor:
    return network_view(as_raster(image), CONFIG)


def levels(view: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A network view's image part (3, height, width) in 0..255 again."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (view[:, :height, :width] * std + mean) * 255


@pytest.mark.parametrize("size", [64, 1024])
def test_resizes_to_the_shape_that_segment_anything_does(size):
    for height in range(1, 400, 7):
        for width in range(1, 400, 11):
            theirs = ResizeLongestSide.get_preprocess_shape(height, width, size)
            assert resized_shape(height, width, size) == tuple(max(1, side) for side in theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_view_is_padded_right_and_bottom_with_zeros_after_normalising(shape):
    view = view_of(textured(*shape))
    assert view.shape == (3, 64, 64) and view.dtype == torch.float32
    height, width = resized_shape(*shape, 64)
    assert max(height, width) == 64
    assert not view[:, height:].any() and not view[:, :, width:].any()
    assert view[:, :height, :width].isfinite().all() and view[:, :height, :width].any()


def test_same_size_is_untouched():
    image = textured(48, 64)
    expected = torch.from_numpy(image).permute(2, 0, 1).float()
    torch.testing.assert_close(levels(view_of(image), 48, 64), expected, atol=1e-3, rtol=0)


def test_enlarging_is_bilinear():
    image = textured(24, 32)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = F.interpolate(pixels, (48, 64), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(levels(view_of(image), 48, 64), expected, atol=1.01, rtol=0)


def test_shrinking_averages_instead_of_dropping_pixels():
    image = textured(4 * 40, 4 * 64)
    expected = torch.from_numpy(image.reshape(40, 4, 64, 4, 3).mean((1, 3))).permute(2, 0, 1).float()
    torch.testing.assert_close(levels(view_of(image), 40, 64), expected, atol=0.51, rtol=0)


@pytest.mark.parametrize("shape", [*SHAPES, (130, 77), (300, 200)])
def test_training_without_augmentation_sees_the_same(shape):
    image = textured(*shape)
    item = training_item(CONFIG, image, np.zeros(shape, np.uint8))
    view = view_of(image)
    assert torch.equal(item["image"], view)
    height, width = resized_shape(*shape, 64)
    mask = torch.as_tensor(item["mask"])
    assert not mask[:height, :width].any() and (mask[height:] == 255).all() and (mask[:, width:] == 255).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_own_size_cuts_the_padding_off(shape):
    height, width = resized_shape(*shape, 64)
    logits = torch.full((2, 64, 64), float("nan"))
    logits[:, :height, :width] = torch.randn(2, height, width, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits[None, :, :height, :width], shape, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(own_size(logits, shape), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1, 50])
def test_rows_of_own_size_are_the_whole_in_parts(shape, step):
    logits = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(1))
    stops = range(0, shape[0], step)
    parts = [own_size(logits, shape, slice(start, min(start + step, shape[0]))) for start in stops]
    torch.testing.assert_close(torch.cat(parts, dim=1), own_size(logits, shape), atol=1e-4, rtol=0)


def test_there_and_back_nothing_moves():
    y, x = np.mgrid[0:90, 0:150]
    image = np.stack([y * 2, x, (x + y) // 2], axis=-1).astype(np.uint8)  # slopes: a shift by half a pixel shows
    back = own_size(levels(view_of(image), 64, 64), (90, 150))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    torch.testing.assert_close(back[inner], torch.from_numpy(image).permute(2, 0, 1).float()[inner], atol=1.0, rtol=0)
