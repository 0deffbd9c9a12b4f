"""Training and evaluation items: what they hold, and that they depend on (seed, epoch, index) alone."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from samseg.common.errors import ConfigError, InputError
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig, complete_data
from samseg.data.dataset import SegmentationDataset
from samseg.data.loader import Loader
from samseg.data.raster import Raster
from tests.conftest import SHARED
from tests.data.arrays import ArraySource, RawTarget, training_item
from tests.data.conftest import dataset_of, write_pair

AUGMENT = ["HorizontalFlip", {"Rotate": {"limit": 30, "p": 1}}, {"GaussNoise": {"p": 1}}]


def same(a: dict, b: dict) -> bool:
    return torch.equal(a["image"], b["image"]) and torch.equal(a["classes"], b["classes"])


def read(path) -> np.ndarray:
    return np.array(Image.open(path))


def test_evaluation_items_are_the_files_at_their_own_size(data):
    dataset = dataset_of(data, "val", train=False, seed=0)
    assert len(dataset) == 2
    for index in range(2):
        item, folder = dataset[index], Path(data.root) / "val"
        assert item["name"] == f"val{index}"
        assert np.array_equal(item["image"].pixels.transpose(1, 2, 0), read(folder / f"images/val{index}.png"))
        raw = read(folder / f"masks/val{index}.png")
        expected = np.select([raw == 0, raw == 7], [0, 1], IGNORE_INDEX)
        assert item["classes"].dtype == torch.int64 and np.array_equal(item["classes"], expected)


def test_training_items_are_of_one_size(data):
    data.augment = AUGMENT
    dataset = dataset_of(data, "train", train=True, seed=0)
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch["image"].shape == (3, 3, 64, 64) and batch["image"].dtype == torch.float32
    assert batch["classes"].shape == (3, 64, 64) and batch["classes"].dtype == torch.int64
    assert set(batch["classes"].unique().tolist()) == {0, 1, 255}
    assert (batch["classes"][2, :, 43:] == 255).all()  # the third is 30 x 20, so 64 x 43 of 64 x 64


def test_an_item_depends_on_seed_epoch_and_index_alone(data):
    data.augment = AUGMENT

    def item(index: int, epoch: int = 3, seed: int = 1, before: tuple[int, ...] = ()) -> dict:
        dataset = dataset_of(data, "train", train=True, seed=seed)
        for other in before:
            dataset[other]
        dataset.set_epoch(epoch)
        return dataset[index]

    assert same(item(1), item(1, before=(0, 1, 2, 1)))
    assert not same(item(1), item(1, epoch=4))
    assert not same(item(1), item(1, seed=2))


def test_transforms_draw_independently_of_each_other(data):
    mask = np.zeros((64, 64), np.uint8)
    mask[0, 0] = 7
    write_pair(Path(data.root) / "corner", "a", np.zeros((64, 64, 3), np.uint8), mask)
    data.augment = ["HorizontalFlip", "VerticalFlip"]
    dataset = dataset_of(data, "corner", train=True, seed=0)
    corners = set()
    for epoch in range(40):
        dataset.set_epoch(epoch)
        corners.add(tuple(dataset[0]["classes"].nonzero()[0].tolist()))
    assert corners == {(0, 0), (0, 63), (63, 0), (63, 63)}


def test_processes_that_stay_see_the_epoch_change(data):
    data.augment = AUGMENT
    dataset = dataset_of(data, "train", train=True, seed=1)
    loader = Loader(dataset, 2, batch_size=None)
    for epoch in (0, 5):
        dataset.set_epoch(epoch)
        for index, item in enumerate(loader):
            assert same(item, dataset[index])


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_copy_gives_the_same_items(data, copier):
    data.augment = AUGMENT
    dataset = dataset_of(data, "train", train=True, seed=1)
    dataset.set_epoch(2)
    assert same(copier(dataset)[1], dataset[1])


def test_native_resolution_takes_as_many_crops_as_cover_an_image(data):
    data.resize, data.image_size = False, 32
    folder = Path(data.root) / "train"
    rng = np.random.default_rng(0)
    write_pair(folder, "wide", rng.integers(0, 256, (64, 160, 3), dtype=np.uint8), np.zeros((64, 160), np.uint8))
    dataset = dataset_of(data, "train", train=True, seed=0)
    # 40 x 64, 64 x 64, 30 x 20 and 64 x 160 over 32 x 32: 2.5 (rounded to even), 4, 0.6, 10
    assert len(dataset) == 2 + 4 + 1 + 10
    items = [dataset[index] for index in range(len(dataset))]
    assert all(item["image"].shape == (3, 32, 32) for item in items)
    assert not any(same(items[7], other) for other in items[8:])
    assert len(dataset_of(data, "train", train=False, seed=0)) == 4


def test_the_last_item_ends_a_loop(data):
    dataset = dataset_of(data, "train", train=True, seed=0)
    assert same(dataset[-1], dataset[2])
    with pytest.raises(IndexError):
        dataset[3]


def test_an_augmentation_that_an_image_is_too_small_for(data):
    data.augment = [{"RandomCrop": {"height": 32, "width": 32, "p": 1}}]
    dataset = dataset_of(data, "train", train=True, seed=0)
    dataset[0]
    with pytest.raises(
        InputError, match=r"data.augment cannot be applied to .*train2.png \(20 x 30 pixels\): .*[Cc]rop"
    ):
        dataset[2]


def test_errors_come_when_the_data_set_is_made(data):
    data.augment = ["Flop"]
    with pytest.raises(ConfigError, match="no transform Flop"):
        dataset_of(data, "train", train=True, seed=0)
    with pytest.raises(InputError, match="no such folder"):
        dataset_of(data, "training", train=False, seed=0)


def test_real_images():
    root = SHARED / "camvid"
    if not root.is_dir():
        pytest.skip("no real images here")
    classes = {f"class {i}": i for i in range(11)}
    config = DataConfig(root=str(root), classes=classes, ignore=[11], image_size=96, augment=AUGMENT)
    complete_data(config)
    item = dataset_of(config, "train", train=True, seed=0)[0]
    assert (item["classes"][72:] == 255).all()  # 480 x 360 becomes 96 x 72
    assert abs(item["image"][:, :72].mean()) < 2 and (item["image"][:, 72:] == 0).all()


def test_a_target_of_floating_point_needs_no_other_data_set():
    """Heights in metres: resampled by nearest neighbour, NaN where nothing is known."""
    rng = np.random.default_rng(0)
    heights = rng.random((40, 50), dtype=np.float32) + 5
    heights[3, 4] = np.nan
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    config = complete_data(DataConfig(image_size=64, augment=[{"Rotate": {"limit": [40, 40], "p": 1}}]))
    item = training_item(config, image, heights, target=RawTarget(np.nan))
    known = item["mask"].isfinite()
    assert item["mask"].dtype == torch.float32 and item["mask"].shape == (64, 64) and not known[52:].any()
    assert 500 < known.sum() < 64 * 51 and set(item["mask"][known].tolist()) <= set(heights.ravel().tolist())
    whole = SegmentationDataset(
        ArraySource({"a": (image, heights)}), RawTarget(np.nan), config.preprocessing, train=False, seed=0
    )[0]
    assert np.array_equal(whole["mask"], heights, equal_nan=True)


@pytest.mark.parametrize("resize", [True, False])
@pytest.mark.parametrize("augment", [[], AUGMENT, ["RandomRotate90", {"RandomBrightnessContrast": {"p": 1}}]])
def test_pixels_without_data_are_ignored_and_0_also_when_turned(resize, augment):
    pixels = np.random.default_rng(0).random((4, 80, 60)).astype(np.float32) * 100
    pixels[2, 10:50, 20:40] = np.nan
    config = DataConfig(bands=[1, 2, 3, 4], scale=[0, 100], image_size=48, resize=resize, augment=augment)
    config.mean, config.std = [0.5] * 4, [0.2] * 4
    lacking = 0
    for seed in range(5):
        item = training_item(config, Raster(pixels), np.ones((80, 60), np.uint8), seed)
        assert item["image"].shape == (4, 48, 48) and item["image"].isfinite().all()
        known = item["mask"] != 255
        zero = (item["image"] == 0).all(0)
        assert not (zero & known).any() and (item["mask"][known] == 1).all()
        lacking += zero.sum()
    assert lacking > 300
    whole = SegmentationDataset(
        ArraySource({"a": (Raster(pixels), np.ones((80, 60), np.uint8))}),
        RawTarget(),
        config.preprocessing,
        train=False,
        seed=0,
    )[0]
    assert (whole["mask"] == 255).sum() == 800 and np.array_equal(whole["image"].pixels, pixels, equal_nan=True)


def test_only_a_window_is_read_where_crops_are_trained_on():
    class Watched(ArraySource):
        def image(self, name, window=None):
            read.append(window[2:])
            return super().image(name, window)

    image = np.zeros((500, 300, 3), np.uint8)
    for augment, side in (([], 32), (["HorizontalFlip"], 64)):
        read = []
        config = complete_data(DataConfig(image_size=32, resize=False, augment=augment))
        source = Watched({"a": (image, image[..., 0])})
        dataset = SegmentationDataset(
            source, RawTarget(), config.preprocessing, train=True, seed=0, augment=config.augment
        )
        assert all(dataset[index]["image"].shape == (3, 32, 32) for index in range(5))
        assert read == [(side, side)] * 5 and len(dataset) == round(500 * 300 / 32**2)
