"""The training pipeline: what it makes of images and masks, and what it refuses."""

import random
import warnings

import cv2
import numpy as np
import pytest
import torch

from samseg.common.errors import ConfigError
from samseg.data.augment import REFUSED, TRANSFORMS, augmentation
from samseg.data.config import DataConfig, complete_data
from tests.data.arrays import RawTarget, training_item

RNG = np.random.default_rng(0)
# Arguments for the transforms that have no defaults for all of them.
NEEDED = {
    "CenterCrop": {"height": 40, "width": 70, "pad_if_needed": True},
    "RandomCrop": {"height": 40, "width": 70, "pad_if_needed": True},
    "Crop": {"x_min": 10, "y_min": 5, "x_max": 90, "y_max": 90, "pad_if_needed": True},
    "CropAndPad": {"percent": 0.2},
    "CropNonEmptyMaskIfExists": {"height": 20, "width": 20},
    "LongestMaxSize": {"max_size": 50},
    "SmallestMaxSize": {"max_size": 50},
    "Pad": {"padding": 9},
    "PadIfNeeded": {"min_height": 90, "min_width": 90},
    "RandomResizedCrop": {"size": [30, 30]},
    "RandomSizedCrop": {"min_max_height": [10, 20], "size": [30, 30]},
    "Resize": {"height": 33, "width": 55},
    "TextImage": {"font_path": "none"},
    "ToGray": {"num_output_channels": 3},
}


def config(augment=(), size=64, **settings) -> DataConfig:
    return complete_data(DataConfig(classes={"a": 0}, image_size=size, augment=list(augment), **settings))


def usable() -> list[str]:
    """The names that can be used with an image and a mask alone."""
    names = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some call themselves slow, or an alias
        for name in sorted(set(TRANSFORMS) - set(REFUSED)):
            try:
                augmentation([{name: NEEDED.get(name, {})}], config([]).preprocessing, 255)
            except ConfigError as error:
                assert "it needs" in str(error), error
            else:
                names.append(name)
    return names


@pytest.mark.parametrize(
    "height, width", [(64, 64), (63, 65), (65, 63), (1, 1), (1, 200), (200, 3), (40, 64), (97, 131)]
)
def test_an_image_is_resized_normalised_and_padded_as_sam_does_it(height, width):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = RNG.integers(0, 5, (height, width), dtype=np.uint8)
    item = training_item(config(), image, mask)
    assert item["image"].shape == (3, 64, 64) and item["image"].dtype == torch.float32
    scale = 64 / max(height, width)
    inner = [max(1, round(side * scale)) for side in (height, width)]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, inner[::-1], interpolation=method).astype(float)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    expected = np.zeros((64, 64, 3))
    expected[: inner[0], : inner[1]] = (resized - mean) / std
    assert np.abs(item["image"].numpy().transpose(1, 2, 0) - expected).max() < 1e-5
    # Nearest neighbour: the pixel whose area holds the centre of the new one.
    rows = np.floor((np.arange(inner[0]) + 0.5) * height / inner[0]).astype(int)
    columns = np.floor((np.arange(inner[1]) + 0.5) * width / inner[1]).astype(int)
    assert (item["mask"][inner[0] :] == 255).all() and (item["mask"][:, inner[1] :] == 255).all()
    assert np.array_equal(item["mask"][: inner[0], : inner[1]], mask[rows][:, columns])


@pytest.mark.parametrize("height, width", [(64, 64), (200, 300), (40, 300), (40, 50), (1, 1)])
def test_without_resizing_a_window_is_cut_at_native_resolution(height, width):
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = (np.arange(height * width).reshape(height, width) % 251).astype(np.uint8)
    native = config(resize=False, mean=[0.0] * 3, std=[1.0] * 3)
    corners = set()
    for seed in range(20):
        item = training_item(native, image, mask, seed)
        inner = min(64, height), min(64, width)
        got = (item["image"].numpy().transpose(1, 2, 0)[: inner[0], : inner[1]] * 255).round().astype(np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(image, (*inner, 3))[:, :, 0]
        found = np.argwhere((windows[:, :, :3, :3] == got[:3, :3]).all(axis=(2, 3, 4)))
        assert any(
            np.array_equal(image[y : y + inner[0], x : x + inner[1]], got)
            and np.array_equal(mask[y : y + inner[0], x : x + inner[1]], item["mask"][: inner[0], : inner[1]])
            for y, x in found
        )
        assert (item["image"][:, inner[0] :] == 0).all() and (item["mask"][:, inner[1] :] == 255).all()
        corners.add(tuple(found[0]))
    assert len(corners) > 10 or max(height, width) <= 64
    if (height, width) == (200, 300):
        ys, xs = zip(*corners, strict=True)
        assert max(ys) > 100 and max(xs) > 180 and min(ys) < 40 and min(xs) < 60


class TwoMaps(RawTarget):
    maps = ("mask", "wide")

    def __call__(self, source, name, window=None) -> dict[str, np.ndarray]:
        label = source.label(name, window)
        return {"mask": label, "wide": 300 * label.astype(np.uint16)}


def test_every_usable_transform_invents_no_class_and_no_pixel_of_another():
    """Masks hold classes 3 and 200 only: class 0 would come from a border, anything between from blending. Two maps of
    one image stay one upon the other."""
    names = usable()
    assert len(names) > 90 and {"Rotate", "ElasticTransform", "CoarseDropout", "RandomScale", "MaskDropout"} <= set(
        names
    )
    image = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = np.where(np.add.outer(np.arange(60), np.arange(80)) // 9 % 2, 3, 200).astype(np.uint8)
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            augmented = config([{name: {**NEEDED.get(name, {}), "p": 1.0}}])
            for seed in range(5):
                item = training_item(augmented, image, mask, seed, TwoMaps())
                assert set(item["mask"].unique().tolist()) <= {3, 200, 255}, name
                assert item["image"].shape == (3, 64, 64), name
                assert torch.equal(item["wide"], torch.where(item["mask"] == 255, 255, 300 * item["mask"])), name


def test_every_usable_transform_draws_from_the_given_generator_alone():
    image = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = RNG.integers(0, 5, (60, 80), dtype=np.uint8)
    for name in usable():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            augmented = config([{name: {**NEEDED.get(name, {}), "p": 1.0}}])
            items = []
            for global_seed in (1, 2):
                random.seed(global_seed)
                np.random.seed(global_seed)
                cv2.setRNGSeed(global_seed)
                torch.manual_seed(global_seed)
                items.append(training_item(augmented, image, mask, 5))
        assert torch.equal(items[0]["image"], items[1]["image"]), name
        assert torch.equal(items[0]["mask"], items[1]["mask"]), name


def test_what_rotates_in_is_ignored_and_all_but_zero():
    image = np.full((64, 64, 3), 255, np.uint8)
    item = training_item(config([{"Rotate": {"limit": [45, 45], "p": 1}}]), image, np.zeros((64, 64), np.uint8))
    for corner in ((0, 0), (0, 63), (63, 0), (63, 63)):
        assert item["mask"][corner] == 255
        assert item["image"][(slice(None), *corner)].abs().max() < 0.01
    assert item["mask"][32, 32] == 0


def test_what_the_user_asks_for_is_kept():
    augment = [{"Rotate": {"limit": [45, 45], "p": 1, "fill": 0, "fill_mask": 7}}]
    item = training_item(config(augment), np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.uint8))
    assert item["mask"][0, 0] == 7 and item["image"][0, 0, 0] < -2


def test_dropout_leaves_the_mask_unless_told_otherwise():
    image, mask = np.full((64, 64, 3), 255, np.uint8), np.full((64, 64), 3, np.uint8)
    item = training_item(config([{"CoarseDropout": {"p": 1}}]), image, mask)
    assert (item["mask"] == 3).all() and (item["image"] < 0).any()


def test_choices_nest():
    one = {
        "OneOf": {"transforms": ["HorizontalFlip", {"Sequential": {"transforms": ["VerticalFlip"], "p": 1}}], "p": 1}
    }
    nested = config([one, {"SomeOf": {"transforms": ["Blur", "ToSepia"], "n": 1}}])
    image = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    first, again = (training_item(nested, image, image[..., 0], 3) for _ in range(2))
    assert torch.equal(first["image"], again["image"])
    with pytest.raises(ConfigError, match="HorizontalFlip has no argument pp; did you mean p?"):
        augmentation([{"OneOf": {"transforms": [{"HorizontalFlip": {"pp": 1}}]}}], config([]).preprocessing, 255)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("HorizontlFlip", "albumentations has no transform HorizontlFlip; did you mean HorizontalFlip?"),
        ("horizontalflip", "did you mean HorizontalFlip?"),
        ("Qqqqqq", "has no transform Qqqqqq; see"),
        ("Compose", "has no transform Compose"),
        ("DualTransform", "has no transform DualTransform"),
        ({"Rotate": {"limits": 3}}, "Rotate has no argument limits; did you mean limit?"),
        ({"Rotate": {"always_apply": True}}, "Rotate has no argument always_apply; it has limit"),
        ({"Rotate": {"p": 2}}, "Rotate: p: Input should be less than or equal to 1, got 2"),
        ({"Rotate": {"limit": "far"}}, "Rotate: limit: .*got 'far'"),
        ({"RandomCrop": {"height": 5}}, "RandomCrop: .*width"),
        ({"Rotate": {"mask_interpolation": 1}}, "Rotate.mask_interpolation must be 0"),
        ({"Rotate": 45}, "write a transform as Name or as"),
        ({"Rotate": None, "limit": 3}, "write a transform as Name or as"),
        (45, "write a transform as Name or as"),
        ([], "write a transform as Name or as"),
        ("Normalize", "Normalize cannot be used here: samseg normalises"),
        ("ToTensorV2", "ToTensorV2 cannot be used here"),
        ("Morphological", "Morphological cannot be used here"),
        ("Mosaic", "Mosaic cannot be used here: it needs mosaic_metadata as well"),
        ("OneOf", "OneOf needs transforms"),
        ({"OneOf": {"transforms": []}}, "OneOf needs transforms"),
        ({"OneOf": {"transforms": ["Flop"]}}, "has no transform Flop"),
        ({"OneOf": {"transforms": ["Blur"], "q": 1}}, "OneOf has no argument q"),
    ],
)
def test_augmentations_that_cannot_be_are_refused_in_one_line(spec, message):
    with warnings.catch_warnings(), pytest.raises(ConfigError, match=message) as raised:
        warnings.simplefilter("error")  # albumentations only warns of unknown arguments
        augmentation([spec], config([]).preprocessing, 255)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("data.augment: ")
