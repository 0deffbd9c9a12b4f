import numpy as np
import pytest
import torch

from samseg.tasks.metrics import SegmentationMetrics, table

NAMES = ["road", "tree", "car", "boat"]


def counted(pairs):
    metrics = SegmentationMetrics(NAMES)
    for prediction, mask in pairs:
        metrics.update(torch.as_tensor(prediction), torch.as_tensor(mask))
    return metrics.compute()


@pytest.fixture
def pairs():
    """Three images of three sizes, with ignored pixels; no boat in truth or prediction."""
    generator = np.random.default_rng(0)
    pairs = []
    for shape in ((5, 7), (64, 33), (1, 2)):
        mask = generator.integers(0, 3, shape)
        mask[generator.random(shape) < 0.3] = 255
        pairs.append((generator.integers(0, 3, shape), mask))
    return pairs


def test_figures_are_counted_over_all_pixels(pairs):
    prediction, mask = (np.concatenate([array.ravel() for array in arrays]) for arrays in zip(*pairs))
    prediction, mask = prediction[mask != 255], mask[mask != 255]
    metrics = counted(pairs)
    ious = []
    for index, name in enumerate(NAMES[:3]):
        p, t = prediction == index, mask == index
        ious.append((p & t).sum() / (p | t).sum())
        assert metrics["iou"][name] == pytest.approx(ious[-1])
        assert metrics["f1"][name] == pytest.approx(2 * (p & t).sum() / (p.sum() + t.sum()))
        assert metrics["class_accuracy"][name] == pytest.approx((p & t).sum() / t.sum())
        assert metrics["share"][name] == pytest.approx(t.mean())
    assert metrics["accuracy"] == pytest.approx((prediction == mask).mean())
    assert metrics["miou"] == pytest.approx(np.mean(ious))  # without the boat


def test_a_class_neither_true_nor_predicted_has_no_figures(pairs):
    metrics = counted(pairs)
    assert metrics["iou"]["boat"] is metrics["f1"]["boat"] is metrics["class_accuracy"]["boat"] is None
    assert metrics["share"]["boat"] == 0


def test_a_class_only_predicted_has_an_iou_of_zero_and_no_accuracy():
    metrics = counted([(np.array([0, 3]), np.array([0, 0]))])
    assert metrics["iou"]["boat"] == 0 and metrics["class_accuracy"]["boat"] is None
    assert metrics["miou"] == pytest.approx((0.5 + 0) / 2)


def test_without_a_pixel_that_counts_there_are_no_figures():
    metrics = counted([(np.zeros((2, 2), int), np.full((2, 2), 255))])
    assert metrics["miou"] is None and metrics["accuracy"] is None
    assert "nan" not in table(metrics)


def test_the_table_has_a_line_for_every_class(pairs):
    lines = table(counted(pairs)).splitlines()
    assert [line.split()[0] for line in lines[1:5]] == NAMES
    assert len({len(line) for line in lines}) == 1
    assert f"{counted(pairs)['miou']:.4f}" in lines[-1]
