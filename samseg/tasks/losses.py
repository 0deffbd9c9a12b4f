"""The training loss: a weighted sum of cross entropy, focal, Dice and Lovász, over the pixels that count."""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss, LovaszLoss
from torch import Tensor, nn

from samseg.common.errors import ConfigError, nearest, require
from samseg.data.check import balanced_weights
from samseg.data.classes import IGNORE_INDEX

FOCAL_GAMMA = 2.0  # Lin et al., 2017


@dataclass
class LossConfig:
    """Weights of the losses that are added up. Those left out are off; with none named it is cross entropy alone."""

    ce: float | None = None  # cross entropy
    dice: float | None = None
    focal: float | None = None
    lovasz: float | None = None
    class_weights: Any = None  # null | balanced (from the training masks) | {class name: weight}, 1 for those left out


class SegmentationLoss(nn.Module):
    """``ce``, ``focal``, ``dice`` and ``lovasz`` by their weights in ``config``, in float32, without ignored pixels.

    Cross entropy and focal loss (softmax form, gamma 2) are means over pixels; the class weights weigh the pixels of
    both, as `torch.nn.functional.cross_entropy` does. Dice and Lovász (Berman et al., 2018) are taken over the batch
    as one picture; class weights do not enter them, and a class without true pixels in the batch adds nothing.

    Args:
        class_names: the classes in the order of their indices.
        class_pixels: pixels of each class in the training masks; needed for ``class_weights: balanced``.
    """

    def __init__(self, config: LossConfig, class_names: list[str], class_pixels: list[int] | None = None):
        super().__init__()
        self.config = config
        self.dice = DiceLoss("multiclass", ignore_index=IGNORE_INDEX)
        self.lovasz = LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)
        self.register_buffer("class_weights", _class_weights(config.class_weights, class_names, class_pixels))

    def pixel_weight(self, mask: Tensor) -> Tensor:
        """The sum of class weights over the pixels of ``mask`` (B, H, W) that count: what the mean divides by."""
        return self.class_weights[mask[mask != IGNORE_INDEX]].sum()

    def forward(self, logits: Tensor, mask: Tensor, pixel_weight: Tensor | None = None, batches: int = 1) -> Tensor:
        """The loss of ``logits`` (B, C, H, W) against ``mask`` (B, H, W) of class indices and 255 for ignored.

        A batch that is one of several ``batches`` of an accumulated step is given the `pixel_weight` of all of them
        together: the losses then add up to what one large batch would give, exactly so for cross entropy and focal.
        Dice and Lovász are no sums over pixels; they are averaged over the batches. Without a pixel that counts the
        loss is 0, with gradients of 0.
        """
        logits = logits.float()
        total = self.pixel_weight(mask) if pixel_weight is None else pixel_weight
        loss = logits.new_zeros(())
        if self.config.ce or self.config.focal:
            nll = F.cross_entropy(logits, mask, reduction="none", ignore_index=IGNORE_INDEX)  # 0 where ignored
            focus = self.config.ce + self.config.focal * (1 - torch.exp(-nll)) ** FOCAL_GAMMA
            weight = self.class_weights[mask.where(mask != IGNORE_INDEX, 0)]
            loss = loss + (weight * focus * nll).sum() / total.clamp(min=torch.finfo(torch.float32).tiny)
        if self.config.dice:
            loss = loss + self.config.dice * self.dice(logits, mask) / batches
        if self.config.lovasz:
            # Without a pixel that counts SMP answers with an empty tensor, whose sum is the 0 we want.
            loss = loss + self.config.lovasz * self.lovasz(logits, mask).sum() / batches
        return loss


def _class_weights(given: str | dict | None, class_names: list[str], class_pixels: list[int] | None) -> Tensor:
    if given is None:
        return torch.ones(len(class_names))
    if given == "balanced":
        return torch.tensor(balanced_weights(class_pixels))
    return torch.tensor([float(given.get(name, 1)) for name in class_names])


def loss_weights(loss: LossConfig) -> dict[str, float | None]:
    """The losses by name, in their declared order, without the class weights."""
    return {item.name: getattr(loss, item.name) for item in fields(loss) if item.name != "class_weights"}


def complete_loss(loss: LossConfig, classes: list[str]) -> None:
    """Fill in, in place, what is left out; ConfigError for weights below 0, all 0, or of a class that there is not."""
    weights = loss_weights(loss)
    for name, weight in weights.items():
        require(f"train.loss.{name}", weight, "at least 0", lambda value: 0 <= value < math.inf)
    named = [weight for weight in weights.values() if weight is not None]
    if named and not any(named):
        raise ConfigError(
            f"train.loss: every weight is 0, so nothing would be trained; set one of {', '.join(weights)}"
        )
    _check_class_weights(loss.class_weights, classes)
    if not named:
        loss.ce = 1.0
    for name, weight in loss_weights(loss).items():
        setattr(loss, name, float(weight or 0))
    if isinstance(loss.class_weights, dict):
        loss.class_weights = {name: float(loss.class_weights.get(name, 1)) for name in classes}


def _check_class_weights(weights: Any, classes: list[str]) -> None:
    key = "train.loss.class_weights"
    if weights is None or weights == "balanced":
        return
    if not isinstance(weights, dict):
        raise ConfigError(f"{key} must be null, balanced or a mapping of class names to weights, got {weights!r}")
    for name, weight in weights.items():
        if name not in classes:
            close = nearest(str(name), classes)
            hint = f"did you mean {close}?" if close else f"data.classes names {', '.join(classes)}"
            raise ConfigError(f"{key}: there is no class {name}; {hint}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise ConfigError(f"{key}.{name} must be a number, at least 0, got {weight!r}")
    if not any(weights.get(name, 1) > 0 for name in classes):
        raise ConfigError(f"{key}: every class has weight 0, so there is nothing to train")
