"""What a report says of segmentation, beside counts made by hand."""

import numpy as np
import pytest
import torch

from samseg.tasks.bootstrap import draws, interval
from samseg.tasks.metrics import BINS, SegmentationMetrics
from samseg.tasks.semantic.report import chosen, errors, image_scores, scores

NAMES = ["road", "tree", "boat"]


def test_counts_by_image_add_up_to_those_of_the_split():
    generator = np.random.default_rng(0)
    metrics = SegmentationMetrics(NAMES)
    for number in range(4):
        truth, prediction = generator.integers(0, 2, (2, 9, 5 + number))
        truth[0] = 255
        metrics.update(torch.as_tensor(prediction), torch.as_tensor(truth))
        metrics.count_image(f"image {number}", prediction.astype(np.uint8), truth)
    details, figures = metrics.details(), metrics.compute()
    assert details["names"].tolist() == [f"image {number}" for number in range(4)]
    total = scores(details["pixels"].sum(0))
    for key, name in (("iou", "iou"), ("f1", "f1"), ("recall", "class_accuracy")):
        found = dict(zip(NAMES, total[key], strict=True))
        assert found["road"] == pytest.approx(figures[name]["road"]) and np.isnan(found["boat"])
    assert total["accuracy"] == pytest.approx(figures["accuracy"])
    assert (details["confusion"].sum(1) == details["pixels"][:, :, 1].sum(0)).all()
    assert details["borders"].shape == (4, 3, 4)


def test_without_an_image_there_are_no_rows():
    details = SegmentationMetrics(NAMES).details()
    assert details["pixels"].shape == (0, 3, 3) and details["calibration"].shape == (BINS, 3)


def test_calibration_counts_each_pixel_in_its_bin():
    torch.manual_seed(0)
    logits, truth = 3 * torch.randn(3, 6, 7), torch.randint(0, 3, (6, 7))
    truth[2, 3] = 255
    metrics = SegmentationMetrics(NAMES)
    metrics.count_confidence(logits, truth)
    expected = np.zeros((BINS, 3))
    for y, x in np.ndindex(6, 7):
        if truth[y, x] != 255:
            confidence, guess = logits.softmax(0)[:, y, x].max(0)
            bin = min(BINS - 1, int(confidence * BINS))
            expected[bin] += 1, confidence.item(), guess == truth[y, x]
    np.testing.assert_allclose(metrics.details()["calibration"], expected, atol=1e-5)


def test_intervals_of_a_mean_are_those_of_the_normal_distribution():
    """For a mean over many images the bootstrap must give the textbook's standard error."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = interval(draws(400) @ values / 400)
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)
    assert (draws(400).sum(1) == 400).all()


@pytest.mark.parametrize("images", [1, 2, 5, 9, 30])
def test_examples_are_the_best_median_and_worst_each_once(images):
    values = np.random.default_rng(images).random(images)
    values[0] = np.nan if images > 9 else values[0]  # all of it is ignored: nothing to be seen
    found = chosen(values)
    indices = [index for _, index in found]
    assert len(set(indices)) == len(indices) == min(images, 9)
    assert values[indices].tolist() == sorted(values[indices], reverse=True)
    exists = values[~np.isnan(values)]
    assert values[indices[0]] == exists.max() and values[indices[-1]] == exists.min()
    if images == 30:
        assert [title for title, _ in found] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
        assert np.sort(exists)[13:16].tolist() == sorted(values[index] for title, index in found if title == "median")


def test_scores_of_images_and_their_errors():
    pixels = np.array([[[4, 4, 4], [0, 0, 0]], [[0, 0, 2], [2, 4, 2]], [[0, 0, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(image_scores(pixels), [1, 0.25, np.nan])
    red = errors(np.zeros((1, 3, 3), np.uint8), np.array([[0, 1, 255]]), np.array([[0, 0, 0]]))
    assert (red[0, 1] != red[0, 0]).any() and (red[0, 2] == red[0, 0]).all()
