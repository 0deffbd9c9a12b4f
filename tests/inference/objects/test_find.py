"""Objects by three ways, their files, and how well they match the true ones."""

import cv2
import numpy as np
import pytest
import tifffile
import torch
from segment_anything import SamPredictor

from samseg.inference.objects import find as ways
from samseg.inference.objects.files import save_instances
from samseg.inference.objects.find import by_components, by_generator, by_prompts, middles
from samseg.models.sam.files import empty_sam
from tests.encoders.conftest import SMALL
from tests.models.sam.reference import picture, randomised


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    return randomised(empty_sam(SMALL, 128))


def scene() -> np.ndarray:
    """(90, 120) classes: two discs of class 1 that touch, a square of class 2 at one of them, a speck, some ignored."""
    rows, columns = np.mgrid[:90, :120]
    classes = np.zeros((90, 120), np.uint8)
    classes[np.hypot(rows - 30, columns - 30) < 18] = 1
    classes[np.hypot(rows - 30, columns - 64) < 18] = 1
    classes[49:70, 20:50] = 2
    classes[80, 100] = 1
    classes[:, 115:] = 255
    return classes


def test_components():
    found = by_components(scene())
    assert found.classes == [1, 1, 2] and found.scores == [1.0] * 3
    assert np.array_equal(found.map > 0, (scene() > 0) & (scene() < 255))
    for number, label in enumerate(found.classes, start=1):
        area = found.map == number
        assert (scene()[area] == label).all() and cv2.connectedComponents(area.astype(np.uint8))[0] == 2
    assert by_components(scene(), min_pixels=2).classes == [1, 2]
    assert 0 in by_components(scene(), background=None).classes


def test_middles_are_where_the_discs_are():
    area = (scene() == 1) & (np.arange(120) < 95)
    points = middles(area)
    assert len(points) == 2
    for x, y in points:
        assert min(np.hypot(x - 30, y - 30), np.hypot(x - 64, y - 30)) < 2
    line = np.zeros((20, 60), bool)
    line[10, 5:55] = True
    assert all(line[y, x] for x, y in middles(line))


def test_prompts_give_sams_masks_for_the_middles(sam, monkeypatch):
    monkeypatch.setattr(ways, "POINTS_AT_ONCE", 2)
    monkeypatch.setattr(ways, "MOST_OVERLAP", 1.0)
    classes = scene()
    found = by_prompts(sam, picture(), classes, min_pixels=2)
    predictor = SamPredictor(sam)
    predictor.set_image(picture())
    expected = []
    for label in (1, 2):
        for point in middles((classes == label) & (np.arange(120) < 95)):
            masks, scores, _ = predictor.predict(np.array([point]), np.array([1]))
            expected.append((scores.max(), label, masks[scores.argmax()]))
    expected.sort(key=lambda one: -one[0])
    taken = np.zeros((90, 120), bool)
    number = 0
    for score, label, mask in expected:
        free = mask & ~taken
        if free.sum() > 1:
            number += 1
            assert found.classes[number - 1] == label and found.scores[number - 1] == pytest.approx(float(score))
            assert ((found.map == number) != free).mean() < 1e-3
            taken |= free
    assert number == len(found.classes) > 0
    assert by_prompts(sam, picture(), np.zeros((90, 120), np.uint8)).classes == []


def test_generator_gives_an_object_its_class(sam):
    settings = dict(points_per_side=3, pred_iou_thresh=-9.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    found = by_generator(sam, picture(), **settings)
    assert found.classes and set(found.classes) == {1} and found.scores == sorted(found.scores, reverse=True)
    classes = np.full((90, 120), 3, np.uint8)
    assert set(by_generator(sam, picture(), classes, **settings).classes) == {3}
    assert by_generator(sam, picture(), classes, background=3, **settings).classes == []


def test_better_masks_go_first_and_repeats_are_dropped():
    full, half, rest = np.zeros((3, 4, 8), bool)
    full[:, :4], half[:, :2], rest[:, 3:] = True, True, True
    found = ways._painted([half, full, rest], [0.5, 0.9, 0.7], [1, 2, 3], (4, 8), 1)
    assert found.classes == [2, 3] and found.scores == [0.9, 0.7]
    assert found.map.tolist() == [[1] * 4 + [2] * 4] * 4


@pytest.mark.parametrize("count, suffix, dtype", [(65535, ".png", np.uint16), (65536, ".tif", np.uint32)])
def test_instance_maps_hold_every_number(count, suffix, dtype, tmp_path):
    numbers = np.zeros((256, 260), np.int32)
    numbers.ravel()[1 : count + 1] = np.arange(1, count + 1)
    file = save_instances(tmp_path / "a.b", numbers)
    assert file == tmp_path / f"a.b{suffix}"
    read = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) if suffix == ".png" else tifffile.imread(file)
    assert read.dtype == dtype and np.array_equal(read, numbers)
