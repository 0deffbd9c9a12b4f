"""The clicks and scores of evaluation."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from samseg.models.sam.contract import Answers
from samseg.models.sam.simulate import NEGATIVE, NO_POINT, POSITIVE
from samseg.models.sam.transform import Padded
from samseg.tasks.bootstrap import draws
from samseg.tasks.promptable.clicks import CLICKS, ENOUGH, next_click, object_scores, shape_scores
from samseg.tasks.promptable.metrics import PromptMetrics, table
from samseg.tasks.promptable.reporter import PromptReporter

ALL = np.ones((30, 40), bool)


def mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    found = np.zeros((30, 40), bool)
    found[top:bottom, left:right] = True
    return found


def test_the_first_click_is_in_the_middle_and_the_next_in_the_larger_error():
    truth, nothing = mask(10, 5, 25, 20), np.zeros((30, 40), bool)
    assert next_click(truth, nothing, ALL) == (17, 12, POSITIVE)
    assert next_click(truth, mask(10, 5, 25, 10), ALL) == (next_click(mask(10, 10, 25, 20), nothing, ALL))
    x, y, label = next_click(truth, mask(10, 5, 40, 20), ALL)
    assert label == NEGATIVE and 25 <= x and 5 <= y < 20
    unknown = ALL.copy()
    unknown[:, 25:] = False
    assert next_click(truth, mask(10, 5, 40, 20), unknown)[2] == NO_POINT
    assert next_click(truth, truth, ALL)[2] == NO_POINT


def test_a_single_pixel_and_the_border_are_found():
    nothing = np.zeros((30, 40), bool)
    assert next_click(mask(39, 29, 40, 30), nothing, ALL) == (39, 29, POSITIVE)
    x, y, _ = next_click(ALL, nothing, ALL)
    assert 14 <= x <= 25 and 14 <= y <= 15


class Oracle:
    """Answers with an object that grows with the number of clicks, at half the image's size."""

    image_transform, objects_at_once, device = Padded(20), 100, torch.device("cpu")

    def decode(self, features, points=None, boxes=None, masks=None, multimask=False):
        width = 3 if boxes is not None else points[0].shape[1]  # of 5 px of the network's
        low = torch.full((1, 3 if multimask else 1, 20, 20), -10.0)
        low[0, -1, 5:10, 5 : 5 + width] = 10
        self.asked.append((points, boxes, masks, multimask))
        ious = torch.tensor([[0.1, 0.2, 0.9]]) if multimask else torch.tensor([[0.9]])
        return Answers(low, ious)

    asked: list = []


def test_scores_are_at_the_images_own_size_and_clicks_in_the_networks_pixels():
    truth = torch.zeros(30, 40, dtype=torch.long)
    truth[10:20, 10:20] = 7  # the oracle's 5 x 5, twice as large
    model = Oracle()
    scores = object_scores(model, {}, truth, torch.ones_like(truth, dtype=torch.bool), torch.tensor([7]))
    ious = scores[0, : CLICKS + 1]
    assert model.asked[0][1].tolist() == [[5, 5, 10, 10]]
    assert model.asked[1][3] and not any(call[3] for call in model.asked[2:])  # three answers to the first click alone
    assert model.asked[1][0][0].tolist() == [[[6.75, 6.75]]] and model.asked[1][0][1].tolist() == [[POSITIVE]]
    assert model.asked[2][2].shape == (1, 1, 20, 20) and model.asked[2][0][0].shape == (1, 2, 2)
    grown = [0.2 * n for n in (3, 1, 2, 3, 4, 5)]
    assert ious[:6].tolist() == pytest.approx(grown, abs=0.03)
    assert scores[0, -3] == 5 and scores[0, -2] == 1  # IoU 0.85 is first reached with the fifth click
    assert scores[0, -1].item() == pytest.approx((0.9 - ious).abs().mean().item(), abs=1e-5)
    assert ENOUGH == 0.85


def test_what_the_box_alone_tells():
    disc = (torch.arange(60)[:, None] - 29.5) ** 2 + (torch.arange(60)[None] - 29.5) ** 2 <= 30**2
    box = torch.ones(60, 60, dtype=torch.bool)
    (filled, ellipse), (filled_box, ellipse_box) = shape_scores(torch.stack([disc, box])).tolist()
    assert filled == pytest.approx(torch.pi / 4, abs=0.01) and ellipse == pytest.approx(1, abs=0.01)
    assert filled_box == 1 and ellipse_box == pytest.approx(torch.pi / 4, abs=0.01)


def test_figures_are_means_over_objects_not_images():
    metrics = PromptMetrics(None)
    row = torch.arange(1.0, CLICKS + 5) / 100
    metrics.count_image("b", torch.stack([row, row + 0.3]))
    metrics.count_image("a", (row + 0.6)[None])
    figures = metrics.compute()
    assert (
        figures["objects"] == 3 and figures["box"] == pytest.approx(0.31) and figures["clicks_8"] == pytest.approx(0.39)
    )
    assert figures["iou"] == pytest.approx(0.3 + (1 + 2 + 4 + 6 + 9) / 500)
    assert figures["before"] is None and "as it came" not in table(figures)
    metrics.before.update(row[None])
    assert "as it came" in table(metrics.compute()) and metrics.compute()["before"]["box"] == pytest.approx(0.01)


def test_a_report_says_how_sure_the_score_is():
    """Each draw of images counts all objects of each image as often as the image is drawn."""
    metrics = PromptMetrics(None)
    ious = {"c": [0.2, 0.4, 0.9], "a": [0.5], "none": [], "b": [0.8, 0.7]}
    for name, of_image in ious.items():
        metrics.count_image(name, torch.tensor(of_image)[:, None].expand(-1, CLICKS + 4))
    reporter, details = PromptReporter(SimpleNamespace(table=table)), metrics.details()
    samples = reporter.score_draws(details)
    for often, score in list(zip(draws(4), samples, strict=True))[:50]:
        drawn = [iou for name, times in zip(sorted(ious), often) for iou in times * ious[name]]
        assert score == pytest.approx(np.mean(drawn), abs=1e-6) if drawn else np.isnan(score)
    (section,) = reporter.results(metrics.compute(), details)
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    assert f"IoU 0.583 [{low:.3f}, {high:.3f}]" in section.note and "4 images" in section.note
    assert reporter.score_draws({}) is None and reporter.results(metrics.compute(), {})[0].note == ""
    assert reporter.score_draws(PromptMetrics(None).details()) is None


def test_nothing_to_count_is_no_figure():
    figures = PromptMetrics(["a", "b"]).compute()
    assert figures["iou"] is None and figures["objects"] == 0
    assert "-" in table(figures)
