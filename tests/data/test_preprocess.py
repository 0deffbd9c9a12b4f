from dataclasses import replace

import albumentations as A
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything.utils.transforms import ResizeLongestSide
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from samseg.common.errors import ConfigError, InputError
from samseg.data.config import DataConfig, complete_data
from samseg.data.preprocess import SQUASH, Preprocessing, resize_to_image, resized_shape
from samseg.data.raster import Raster, as_raster
from tests.data.arrays import training_item

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PHOTOS = complete_data(DataConfig(classes={"a": 0}, image_size=64))
CONFIG = PHOTOS.preprocessing
SHAPES = [(1, 1), (1, 64), (63, 64), (64, 63), (64, 64), (65, 64), (200, 31), (5, 3), (4000, 3), (3, 4000)]


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def view_of(image: np.ndarray) -> torch.Tensor:
    return CONFIG.whole_input(as_raster(image))


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
    item = training_item(PHOTOS, image, np.zeros(shape, np.uint8))
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
    torch.testing.assert_close(resize_to_image(logits, (height, width), shape), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1, 50])
def test_rows_of_own_size_are_the_whole_in_parts(shape, step):
    logits, inner = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(1)), CONFIG.inner(shape)
    stops = range(0, shape[0], step)
    parts = [resize_to_image(logits, inner, shape, slice(start, min(start + step, shape[0]))) for start in stops]
    torch.testing.assert_close(torch.cat(parts, dim=1), resize_to_image(logits, inner, shape), atol=1e-4, rtol=0)


@pytest.mark.parametrize("resize", [True, SQUASH])
def test_there_and_back_nothing_moves(resize):
    y, x = np.mgrid[0:90, 0:150]
    image = np.stack([y * 2, x, (x + y) // 2], axis=-1).astype(np.uint8)  # slopes: a shift by half a pixel shows
    shown = deep(resize=resize)
    view = shown.whole_input(as_raster(image))
    back = resize_to_image(levels(view, 64, 64), shown.inner((90, 150)), (90, 150))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    torch.testing.assert_close(back[inner], torch.from_numpy(image).permute(2, 0, 1).float()[inner], atol=1.0, rtol=0)


@pytest.mark.parametrize("shape", [*SHAPES, (130, 77)])
def test_squashed_images_are_what_sam2_sees_and_maps_lie_on_them(shape):
    """sam2's `SAM2Transforms`: tensors, `Resize`, `Normalize`; in training, too, and with pixels without data."""
    image, data = textured(*shape), replace(PHOTOS, resize=SQUASH)
    theirs = Compose([ToTensor(), Resize((64, 64)), Normalize(MEAN, STD)])(image)
    torch.testing.assert_close(data.preprocessing.whole_input(as_raster(image)), theirs, rtol=1e-5, atol=1e-5)
    item = training_item(data, image, np.full(shape, 7, np.uint8))
    torch.testing.assert_close(item["image"], theirs, rtol=1e-5, atol=1e-5)
    assert (torch.as_tensor(item["mask"]) == 7).all()  # to the edges, for nothing is padded
    known = np.ones(shape, bool)
    known[: shape[0] // 2] = False
    view = data.preprocessing.whole_input(Raster(np.moveaxis(image, -1, 0), known))
    assert not view[:, : 64 * (shape[0] // 2) // shape[0]].any() and view[:, -1].any()


def deep(**settings) -> Preprocessing:
    return complete_data(DataConfig(**{"classes": {"a": 0}, "image_size": 64} | settings)).preprocessing


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_bands_are_chosen_and_their_ranges_become_0_to_1(dtype):
    pixels = (np.random.default_rng(0).random((5, 64, 64)) * 4000 - (2000 if dtype != "uint16" else 0)).astype(dtype)
    data = deep(bands=[5, 2], scale=[[0, 1000], [-500, 1500]], mean=[0.2, 0.3], std=[0.5, 0.25])
    expected = np.stack([pixels[4] / 1000.0, (pixels[1].astype(float) + 500) / 2000]).clip(0, 1)
    expected = (expected - np.array([[[0.2]], [[0.3]]])) / np.array([[[0.5]], [[0.25]]])
    for view in (data.whole_input(Raster(pixels)), data.tile_input(Raster(pixels))):
        assert view.dtype == torch.float32
        np.testing.assert_allclose(view.numpy(), expected, atol=1e-5)


def test_large_values_keep_their_differences():
    pixels = (1e9 + np.arange(64 * 64).reshape(1, 64, 64)).astype(np.float64)
    view = deep(bands=[1], scale=[1e9, 1e9 + 4095], mean=[0], std=[1]).tile_input(Raster(pixels))
    np.testing.assert_allclose(view[0].numpy().ravel(), np.linspace(0, 1, 4096), atol=1e-6)


@pytest.mark.parametrize("bands", [1, 4, 7])
@pytest.mark.parametrize("shape", [(32, 48), (128, 100)])
def test_each_band_is_resized_by_itself(bands, shape):
    pixels = np.random.default_rng(0).random((bands, *shape), dtype=np.float32)
    size = {"scale": [0, 1], "mean": [0.5] * bands, "std": [0.5] * bands}
    together = deep(bands=list(range(1, bands + 1)), **size).whole_input(Raster(pixels))
    for band in range(bands):
        alone = deep(bands=[band + 1], scale=[0, 1], mean=[0.5], std=[0.5]).whole_input(Raster(pixels))
        torch.testing.assert_close(together[band], alone[0], atol=1e-5, rtol=0)


def test_one_band_is_repeated_and_two_must_be_chosen():
    grey = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert torch.equal(CONFIG.whole_input(as_raster(grey)), view_of(np.stack([grey] * 3, axis=2)))
    rgba = textured(64, 64, 1), textured(64, 64, 2)[..., :1]
    assert torch.equal(view_of(np.dstack(rgba)), view_of(rgba[0]))
    with pytest.raises(InputError, match="image has two bands; say which are used"):
        view_of(textured(64, 64)[..., :2])
    with pytest.raises(InputError, match=r"x.tif has 3 bands; data.bands=\[4\] asks for band 4"):
        deep(bands=[4]).whole_input(as_raster(textured(9, 9)), "x.tif")


@pytest.mark.parametrize("dtype, scale", [("uint8", None), ("uint16", [0, 255]), ("float32", [0, 255])])
@pytest.mark.parametrize("size", [40, 64, 160])
def test_pixels_without_data_are_0_and_colour_no_other(dtype, scale, size):
    """Where no pixel lacks data within a filter's reach, all is as if none did."""
    pixels = np.random.default_rng(0).integers(1, 255, (3, 80, 80)).astype(dtype)
    valid = np.ones((80, 80), bool)
    valid[:, :30] = False
    data = deep(scale=scale, image_size=size)
    whole = data.whole_input(Raster(pixels))
    hidden = pixels.copy()
    hidden[:, ~valid] = np.nan if dtype == "float32" else 0
    view = data.whole_input(Raster(hidden, None if dtype == "float32" else valid))
    border = 30 * size // 80
    assert not view[:, :, : border - 1].any() and view.isfinite().all()
    assert torch.equal(view[:, :, border + 2 :], whole[:, :, border + 2 :])
    assert (view[:, :, border + 1] != 0).any()
    assert np.isfinite(hidden).all() or dtype == "float32"  # the image itself is left as it was
    assert np.array_equal(data.valid_pixels(Raster(hidden, valid)), valid)


def test_a_nan_in_a_band_that_is_not_used_does_not_count():
    pixels = np.ones((4, 8, 8), np.float32)
    pixels[3, 2, 2] = np.nan
    assert deep(bands=[1, 2, 3], scale=[0, 2]).valid_pixels(Raster(pixels)) is None
    assert deep(bands=[1, 4], scale=[0, 2]).valid_pixels(Raster(pixels)).sum() == 63


def test_values_that_the_scale_is_not_for():
    for pixels, message in (
        (np.full((3, 4, 4), 300, np.uint16), r"a.tif holds uint16, values from 300 to 300; .*data.scale=percentile"),
        (np.full((3, 4, 4), np.nan, np.float32), "a.tif holds float32, no finite value"),
        (np.zeros((3, 4, 4), complex), r"a.tif must be bands \(C, H, W\) of numbers, got"),
    ):
        with pytest.raises(InputError, match=message):
            CONFIG.whole_input(Raster(pixels), "a.tif")
    with pytest.raises(ConfigError, match="percentile is measured when a run begins"):
        deep(scale="percentile").whole_input(Raster(np.zeros((3, 4, 4), np.uint16)))


def test_what_is_shown_is_three_of_the_chosen_bands_in_8_bits():
    image = textured(9, 9)
    assert np.array_equal(CONFIG.picture(as_raster(image)), image)
    pixels = np.arange(4 * 16, dtype=np.uint16).reshape(4, 4, 4) * 100
    picture = deep(bands=[4, 1, 2, 3], scale=[0, 6300]).picture(Raster(pixels))
    assert np.array_equal(picture, np.moveaxis(np.round(pixels[[3, 0, 1]] * (255 / 6300)), 0, -1).astype(np.uint8))
    assert (np.diff(deep(bands=[2, 3], scale=[0, 6300]).picture(Raster(pixels)).astype(int)) == 0).all()


def test_normalising_is_albumentations_to_the_last_bit():
    """So a run with a seed is what it was when albumentations normalised its images."""
    image = textured(48, 64)
    expected = A.Normalize(mean=MEAN, std=STD)(image=image)["image"]
    assert np.array_equal(view_of(image)[:, :48].numpy(), np.moveaxis(expected, -1, 0))
