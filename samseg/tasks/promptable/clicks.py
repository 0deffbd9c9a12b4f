"""Scores of a promptable model: from a box, and click by click, at the image's own size.

The clicks are those of the field's interactive evaluation (Sofiiuk et al., "Reviving Iterative Training with Mask
Guidance", 2021): the first in the object's middle, each further one in the middle of the largest error, with the
answer before it as a mask prompt, as SAM was evaluated.
"""

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from samseg.data.preprocess import resize_to_image
from samseg.models.sam.contract import Features, PromptableSam
from samseg.models.sam.simulate import NEGATIVE, NO_POINT, POSITIVE, boxes_of

CLICKS = 8
ENOUGH = 0.85  # the IoU that clicks are counted up to
PIXELS_AT_ONCE = 2**26  # of images, over the objects that are looked at together


def object_scores(model: PromptableSam, features: Features, objects: Tensor, valid: Tensor, numbers: Tensor) -> Tensor:
    """A row for each object, (N, 1 + CLICKS + 3) float32 on the CPU.

    IoU from the object's box and after each of `CLICKS` clicks; the clicks up to an IoU of `ENOUGH`, `CLICKS` where it
    is not reached; whether it is reached; the mean absolute error of the predicted IoU over all of these answers.

    Args:
        model: in evaluation mode, without gradients.
        features: of the image.
        objects, valid: their numbers (H, W), and where the truth is known, (H, W) bool, on the CPU.
        numbers: of the objects to prompt for (N,).
    """
    at_once = max(1, min(model.objects_at_once, PIXELS_AT_ONCE // objects.numel()))
    if not len(numbers):
        return torch.zeros(0, CLICKS + 4)
    some = (objects == part[:, None, None] for part in numbers.split(at_once))
    return torch.cat([_some_scores(model, features, truth, valid) for truth in some])


def box_answers(model: PromptableSam, features: Features, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the answers to the boxes of objects (K, H, W) bool at the image's own size, and predicted IoUs (K,)."""
    shape = tuple(truth.shape[1:])
    boxes = boxes_of(truth) * _scale(model, shape).repeat(2)
    logits, ious, _ = model.decode(features, boxes=boxes.to(model.device))
    return _at_size(model, logits[:, 0], shape), ious[:, 0]


def point_answers(model: PromptableSam, features: Features, points: Tensor, labels: Tensor, masks: Tensor | None):
    """The answer SAM itself thinks best to points (K, P, 2) in pixels of the network's input: logits, predicted IoUs.

    (K, 1, 4h, 4w) and (K,). Of the first click three answers are asked for.
    """
    logits, ious, _ = model.decode(features, (points, labels), masks=masks, multimask=masks is None)
    best = ious.argmax(1)
    every = torch.arange(len(best), device=best.device)
    return logits[every, best][:, None], ious[every, best]


def _some_scores(model: PromptableSam, features: Features, truth: Tensor, valid: Tensor) -> Tensor:
    shape, device = tuple(truth.shape[1:]), model.device
    logits, predicted = box_answers(model, features, truth)
    ious = [_iou(logits.cpu() > 0, truth, valid)]
    errors = [(predicted.cpu() - ious[0]).abs()]
    scale = _scale(model, shape)
    points, labels, masks, answer = [], [], None, torch.zeros_like(truth)
    for _ in range(CLICKS):
        clicks = [next_click(*pair, valid.numpy()) for pair in zip(truth.numpy(), answer.numpy(), strict=True)]
        point = torch.tensor([click[:2] for click in clicks], dtype=torch.float32)
        points.append((point + 0.5) * scale - 0.5)
        labels.append(torch.tensor([click[2] for click in clicks]))
        masks, predicted = point_answers(
            model, features, torch.stack(points, 1).to(device), torch.stack(labels, 1).to(device), masks
        )
        answer = _at_size(model, masks[:, 0], shape).cpu() > 0
        ious.append(_iou(answer, truth, valid))
        errors.append((predicted.cpu() - ious[-1]).abs())
    after = torch.stack(ious[1:], dim=1)
    reached = (after >= ENOUGH).any(1)
    to_enough = torch.where(reached, (after >= ENOUGH).int().argmax(1) + 1, CLICKS)
    return torch.cat([torch.stack(ious, 1), torch.stack([to_enough, reached, torch.stack(errors).mean(0)], 1)], dim=1)


def next_click(truth: np.ndarray, answer: np.ndarray, valid: np.ndarray) -> tuple[int, int, int]:
    """(x, y, label) of the pixel deepest within what is lacking (positive) or too much (negative), (H, W) bool each."""
    lacking, surplus = _deepest(truth & ~answer), _deepest(answer & ~truth & valid)
    if lacking[2] == surplus[2] == 0:
        return 0, 0, NO_POINT
    return (*lacking[:2], POSITIVE) if lacking[2] >= surplus[2] else (*surplus[:2], NEGATIVE)


def _deepest(region: np.ndarray) -> tuple[int, int, float]:
    """(x, y, distance to the border) of the pixel farthest from what is not ``region``; distance 0: it is empty."""
    left, top, width, height = cv2.boundingRect(region.astype(np.uint8))
    if width == 0:
        return 0, 0, 0.0
    part = np.pad(region[top : top + height, left : left + width].astype(np.uint8), 1)
    distance = cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return left + int(x) - 1, top + int(y) - 1, float(distance[y, x])


def shape_scores(truth: Tensor) -> Tensor:
    """IoU of objects (K, H, W) bool with their boxes and with the ellipses in these, (K, 2): what a box alone tells."""
    left, top, right, bottom = boxes_of(truth).long().unbind(1)
    scores = []
    for mask, x0, y0, x1, y1 in zip(truth, left, top, right, bottom, strict=True):
        inside = mask[y0:y1, x0:x1]
        x, y = ((torch.arange(int(n)) + 0.5) / n * 2 - 1 for n in (x1 - x0, y1 - y0))
        ellipse = x[None] ** 2 + y[:, None] ** 2 <= 1
        scores.append([inside.float().mean(), (inside & ellipse).sum() / (inside | ellipse).sum()])
    return torch.tensor(scores).reshape(-1, 2)


def _at_size(model: PromptableSam, logits: Tensor, shape: tuple[int, int]) -> Tensor:
    """Logits (K, 4h, 4w) of the network's square at the size of the image, (K, H, W)."""
    inner = replace(model.image_transform, size=logits.shape[-1]).inner(shape)
    return resize_to_image(logits, inner, shape)


def _scale(model: PromptableSam, shape: tuple[int, int]) -> Tensor:
    """(2,) the network's pixels a pixel of an image of ``shape`` (H, W), along x and y."""
    height, width = model.image_transform.inner(shape)
    return torch.tensor([width / shape[1], height / shape[0]])


def _iou(answer: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """(K,) of masks (K, H, W) bool, where the truth is known."""
    answer = answer & valid
    return (answer & truth).sum((1, 2)) / (answer | truth).sum((1, 2))
