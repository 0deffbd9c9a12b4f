import cv2
import numpy as np
import pytest
import torch

from benchmarks.generated import SEEN, EndlessDataset, GeneratedSource, scene
from samseg.data.preprocess import Preprocessing
from samseg.tasks.promptable.target import ObjectTarget


def dataset(images):
    preprocessing = Preprocessing(64, True, None, None, (0.5,) * 3, (0.5,) * 3)
    return EndlessDataset(
        GeneratedSource("train", images, 64), ObjectTarget(None, []), preprocessing, train=True, seed=0
    )


@pytest.mark.parametrize("size", [32, 96])
def test_scenes_hold_objects_that_can_be_seen(size):
    for number in range(12):
        image, objects = scene(number, size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8 and objects.shape == (size, size)
        numbers, pixels = np.unique(objects[objects > 0], return_counts=True)
        assert len(numbers) >= 1 and pixels.min() >= SEEN
        spread = image.reshape(-1, 3).std(0).max()
        assert spread > 0  # there is something to see


def test_objects_differ_from_what_is_around_them():
    """The mean colour of most objects is not that of the ring around them."""
    differences = []
    for number in range(20):
        image, objects = scene(number, 96)
        for index in np.unique(objects[objects > 0]):
            inside = (objects == index).astype(np.uint8)
            ring = cv2.dilate(inside, np.ones((7, 7), np.uint8)) - inside
            differences.append(np.abs(image[inside > 0].mean(0) - image[ring > 0].mean(0)).max())
    assert np.median(differences) > 10


def test_a_number_is_a_scene():
    first, again, other = scene(5, 48), scene.__wrapped__(5, 48), scene(6, 48)
    assert all(map(np.array_equal, first, again)) and not np.array_equal(first[0], other[0])


def test_no_epoch_repeats_an_image():
    data, seen = dataset(3), []
    for epoch in (1, 2):
        data.set_epoch(epoch)
        seen += [data[index]["image"] for index in range(len(data))]
    assert len(seen) == 6 and not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    data.set_epoch(1)
    assert torch.equal(data[2]["image"], seen[2])
