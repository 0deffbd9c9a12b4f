"""Objects of an image beside its classes."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from samseg.common.errors import InputError
from samseg.data.config import DataConfig, complete_data, open_source
from samseg.data.dataset import SegmentationDataset
from samseg.tasks.promptable.target import components, known_objects, object_target

CLASSES = {"background": 0, "square": 255}


def configured(root, **settings) -> DataConfig:
    data = DataConfig(root=str(root), classes=CLASSES, image_size=64, **settings)
    complete_data(data)
    return data


def label_of(data: DataConfig, name: str, names=None):
    source = open_source(data, "train")
    maps = {
        key: torch.from_numpy(values).long() for key, values in object_target(data, source, names)(source, name).items()
    }
    return known_objects(maps["objects"])[0], maps.get("classes")


def test_instances_are_numbered_anew_beside_their_classes(objects_root):
    objects, classes = label_of(configured(objects_root), "0")
    truth = np.asarray(Image.open(objects_root / "train" / "instances" / "0.png")).astype(int)
    assert objects.unique().tolist() == [0, 1, 2, 3] and torch.equal(objects * 1000, torch.from_numpy(truth).long())
    assert torch.equal(classes, (objects > 0).long())


def test_without_instances_objects_are_the_areas_of_classes(objects_root, tmp_path):
    (tmp_path / "train").mkdir()
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).symlink_to(objects_root / "train" / kind)
    objects, _ = label_of(configured(tmp_path), "0")
    assert objects.unique().tolist() == [0, 1, 2]  # two squares touch
    background, _ = label_of(configured(tmp_path), "0", ["background"])
    assert background.unique().tolist() == [0, 1]
    ignoring = configured(tmp_path, ignore=[255])
    ignoring.classes = {"background": 0, "square": 1}
    objects, classes = label_of(ignoring, "0")
    assert objects.max() == 0 and classes.unique().tolist() == [0, 255]


def test_components_are_scipys():
    classes = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
    found, count = components(classes, [1, 2]), 0
    for index in (1, 2):
        areas, number = ndimage.label(classes == index, np.ones((3, 3)))
        for area in range(1, number + 1):
            numbers = np.unique(found[areas == area])
            assert len(numbers) == 1 and (found == numbers[0]).sum() == (areas == area).sum()
        count += number
    assert len(np.unique(found)) == count + 1 and (found[classes == 0] == 0).all()


def test_more_objects_than_eight_bits_hold_come_through_augmentation(tmp_path):
    """No object has the number 255, which says what is ignored."""
    for kind in ("images", "masks", "instances"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    objects = np.zeros((64, 64), np.uint16)
    objects[:20, :60] = np.arange(1, 1201).reshape(20, 60)
    Image.fromarray(objects).save(tmp_path / "train" / "instances" / "a.png")
    Image.fromarray(255 * (objects > 0).astype(np.uint8)).save(tmp_path / "train" / "masks" / "a.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "train" / "images" / "a.png")
    data = configured(tmp_path, augment=["Transpose", {"Rotate": {"limit": [90, 90], "p": 1.0}}])
    source = open_source(data, "train")
    item = SegmentationDataset(
        source, object_target(data, source, None), data.preprocessing, train=True, seed=0, augment=data.augment
    )[0]
    numbers, valid = known_objects(item["objects"])
    classes = item["classes"]
    assert torch.equal(valid, classes != 255)
    assert len(numbers.unique()) == 1201 and set(classes.unique().tolist()) <= {0, 1, 255}
    assert torch.equal(numbers > 0, classes == 1)


def test_what_cannot_be_is_one_line(objects_root, tmp_path):
    data = configured(objects_root)
    data.classes = {}
    assert label_of(data, "0")[0].max() == 3  # instances do without classes
    (tmp_path / "train").mkdir()
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).symlink_to(objects_root / "train" / kind)
    data = configured(tmp_path)
    data.classes = {}
    with pytest.raises(InputError, match="0.png has no objects: task: promptable takes them from instances"):
        label_of(data, "0")
    (tmp_path / "train" / "instances").mkdir()
    for number in range(4):
        Image.fromarray(np.ones((9, 9), np.uint16)).save(tmp_path / "train" / "instances" / f"{number}.png")
    with pytest.raises(InputError, match="9 x 9 pixels, but .*0.png is 70 x 50"):
        label_of(configured(tmp_path), "0")


def test_eight_bits_that_are_all_taken_are_too_few(objects_root, tmp_path):
    for kind in ("images", "masks", "instances"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "train" / "images" / "a.png")
    Image.fromarray(np.full((20, 20), 255, np.uint8)).save(tmp_path / "train" / "masks" / "a.png")
    for most, said in ((300, "a.png has 8 bits, and all of its 255 numbers are taken"), (254, None)):
        objects = (np.arange(400) % (most + 1)).reshape(20, 20).astype(np.uint8)
        Image.fromarray(objects).save(tmp_path / "train" / "instances" / "a.png")
        if said is None:
            assert label_of(configured(tmp_path), "a")[0].max() == 254
        else:
            with pytest.raises(InputError, match=said):
                label_of(configured(tmp_path), "a")
