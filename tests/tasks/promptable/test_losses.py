"""The loss of answers to prompts, against formulas written out."""

import pytest
import torch
from torchmetrics.functional.classification import binary_jaccard_index

from samseg.tasks.promptable.losses import PromptLoss, dice_loss, mask_iou


@pytest.fixture
def answers():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 3, 6, 5, generator=generator)
    truth = torch.rand(4, 6, 5, generator=generator) < 0.4
    predicted = torch.rand(4, 3, generator=generator)
    return logits, truth, torch.ones(6, 5, dtype=torch.bool), predicted


def by_hand(logits, truth, predicted, kind: str, iou: float) -> float:
    """One object's, from lists of numbers."""
    masks, errors = [], []
    for answer, guess in zip(logits, predicted, strict=True):
        p, t = answer.sigmoid().flatten(), truth.flatten().float()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        if kind == "dice+bce":
            rest = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
        else:
            focal = -(0.25 * t * (1 - p) ** 2 * p.log() + 0.75 * (1 - t) * p**2 * (1 - p).log())
            rest = 20 * focal.mean()
        masks.append(float(dice + rest))
        errors.append(float(guess - binary_jaccard_index(p, t.int())) ** 2)
    return min(masks) + iou * sum(errors) / len(errors)


@pytest.mark.parametrize("kind", ["dice+bce", "dice+focal"])
@pytest.mark.parametrize("iou", [1.0, 0.5])
def test_the_best_of_three_and_every_predicted_iou(answers, kind, iou):
    loss = PromptLoss(kind, iou)(*answers)
    logits, truth, _, predicted = answers
    for i in range(4):
        assert loss[i].item() == pytest.approx(by_hand(logits[i], truth[i], predicted[i], kind, iou), rel=1e-4)


def test_unknown_pixels_have_no_say(answers):
    logits, truth, valid, predicted = answers
    valid[:2] = False
    wild = logits.clone()
    wild[:, :, :2] = 100
    loss = PromptLoss("dice+bce", 1.0)
    assert torch.equal(loss(wild, truth, valid, predicted), loss(logits, truth, valid, predicted))
    whole = torch.ones(4, 5, dtype=torch.bool)
    torch.testing.assert_close(
        loss(logits, truth, valid, predicted), loss(logits[:, :, 2:], truth[:, 2:], whole, predicted)
    )


def test_the_predicted_iou_learns_and_the_mask_does_not_learn_from_it(answers):
    logits, truth, valid, predicted = (a.clone().requires_grad_() if a.is_floating_point() else a for a in answers)
    PromptLoss("dice+bce", 1.0)(logits, truth, valid, predicted).sum().backward()
    assert (predicted.grad != 0).all()
    with_iou = logits.grad.clone()
    logits.grad = None
    PromptLoss("dice+bce", 0.0)(logits, truth, valid, predicted).sum().backward()
    assert torch.equal(logits.grad, with_iou)
    assert (with_iou.flatten(2).abs().sum(2) > 0).sum(1).tolist() == [1] * 4  # one answer of the three


def test_perfect_and_empty_masks():
    truth = torch.tensor([[1.0, 0, 1, 0]])
    assert dice_loss(100 * (truth - 0.5), truth).item() == pytest.approx(0, abs=1e-6)
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    assert mask_iou(nothing, nothing).item() == 1 and mask_iou(nothing, truth > 0).item() == 0
