"""The loss of SAM's answers to prompts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # Lin et al., 2017
FOCAL_WEIGHT = 20.0  # of the focal loss beside Dice, as SAM was trained (Kirillov et al., 2023)

ABSENT = -1e4  # a logit where the truth is not known: no loss, no gradient, no part of the mask


class PromptLoss(nn.Module):
    """Dice and binary cross entropy, or Dice and focal loss, and the squared error of the predicted IoU.

    Where an object has several answers the one of the least mask loss is learnt from, and every predicted IoU.

    Args:
        kind: "dice+bce" or "dice+focal".
        iou: weight of the predicted IoU's error.
    """

    def __init__(self, kind: str, iou: float):
        super().__init__()
        self.kind, self.iou = kind, iou

    def forward(self, logits: Tensor, truth: Tensor, valid: Tensor, predicted: Tensor) -> Tensor:
        """Logits (K, M, H, W), truth (K, H, W) bool, where it is known (H, W) bool, predicted IoUs (K, M) -> (K,)."""
        logits = logits.float().flatten(2)
        truth = (truth & valid).flatten(1)[:, None]
        if not valid.all():
            logits = logits.masked_fill(~valid.flatten(), ABSENT)
        loss = dice_loss(logits, truth.float())
        if self.kind == "dice+bce":
            each = F.softplus(torch.where(truth, -logits, logits))  # binary cross entropy
        else:
            each = FOCAL_WEIGHT * sigmoid_focal_loss(logits, truth.float().expand_as(logits), FOCAL_ALPHA, FOCAL_GAMMA)
        loss = loss + each.sum(2) / valid.sum()
        error = (predicted - mask_iou(logits.detach() > 0, truth)).square()
        return loss.amin(1) + self.iou * error.mean(1)


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 sum(p t) / (sum(p) + sum(t)) over the last dimension, p the probabilities, each sum with 1 added to it."""
    probability = logits.sigmoid()
    return 1 - (2 * (probability * truth).sum(-1) + 1) / (probability.sum(-1) + truth.sum(-1) + 1)


def mask_iou(mask: Tensor, truth: Tensor) -> Tensor:
    """The intersection over union of masks along the last dimension; 1 where both are empty."""
    union = (mask | truth).sum(-1)
    return torch.where(union > 0, (mask & truth).sum(-1) / union.clamp(min=1), 1.0)
