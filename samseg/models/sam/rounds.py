"""How a SAM is trained with prompts: an image is embedded once, then its objects are prompted for in rounds."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from samseg.models.sam.contract import Features, PromptableSam, of_image
from samseg.models.sam.prompts import PromptConfig
from samseg.models.sam.simulate import (
    POSITIVE,
    boxes_of,
    corrections,
    drawn_objects,
    enlarged_to,
    jittered,
    random_pixels,
    vacant_boxes,
)

Criterion = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass
class Rounds:
    """Prompts, answers and corrections.

    Attributes:
        prompts: what is simulated.
        criterion: the loss of answers: logits (K, M, S, S), truth (K, S, S) bool, valid (S, S) bool, predicted IoUs
            (K, M) -> (K,).
    """

    prompts: PromptConfig
    criterion: Criterion

    def learn(self, sam: PromptableSam, inputs: dict) -> dict[str, Tensor]:
        """The losses of a batch.

        ``{"image": (B, 3, S, S) or "taps": stored ones, "objects": (B, S, S) int, "valid": (B, S, S) bool}``, object
        numbers and 0 for none -> ``{"loss": (N,), an entry an object, or "logits": (B, C, S, S) in a step without
        prompts, and "nothing": 0}``. The latter depends on every parameter, for in a step some have no part, which
        several processes would stop on.
        """
        features = sam.embed(inputs["taps"] if "taps" in inputs else inputs["image"])
        nothing = sum(0 * maps.sum() for maps in features.values())
        for part in filter(None, (sam.mask_decoder, sam.class_tokens)):
            nothing = nothing + 0 * sum(parameter.sum() for parameter in part.parameters() if parameter.requires_grad)
        if sam.class_tokens is not None and torch.rand(()) < self.prompts.none:
            return {"logits": sam.without_prompts(features, inputs["objects"].shape[1:]), "nothing": nothing}
        box_first = bool(torch.rand(()) < self.prompts.box)
        losses = [
            self._prompted(sam, of_image(features, index), objects, valid, box_first)
            for index, (objects, valid) in enumerate(zip(inputs["objects"], inputs["valid"], strict=True))
        ]
        return {"loss": torch.cat(losses), "nothing": nothing}

    def _prompted(
        self, sam: PromptableSam, features: Features, objects: Tensor, valid: Tensor, box_first: bool
    ) -> Tensor:
        """The loss of each object drawn from one image's map, (N,), a few objects at a time."""
        numbers, losses = drawn_objects(objects, self.prompts.min_pixels, self.prompts.objects), []
        for part in numbers.split(sam.objects_at_once):
            if self.prompts.absent > 0 and len(part):
                boxes, vacant = vacant_boxes(boxes_of(objects == part[:, None, None]), (objects == 0) & valid)
                absent = vacant & (torch.rand(len(part), device=part.device) < self.prompts.absent)
                losses.append(self._absent(sam, features, boxes[absent], objects.shape, box_first))
                part = part[~absent]
            losses.append(self._rounds(sam, features, objects, valid, part, box_first))
        return torch.cat(losses)

    def _absent(
        self, sam: PromptableSam, features: Features, boxes: Tensor, shape: tuple[int, int], box_first: bool
    ) -> Tensor:
        """The loss of prompts for objects that are not there, in boxes (K, 4): of the object score alone, (K,)."""
        if not len(boxes):
            return features["embedding"].new_zeros(0)
        if box_first:
            points, boxes = None, jittered(boxes, self.prompts.box_jitter, *shape)
        else:
            points, boxes = _positive((boxes[:, :2] + boxes[:, 2:] - 1) / 2), None

        def loss(points: tuple[Tensor, Tensor] | None, boxes: Tensor | None) -> Tensor:
            return _score_loss(sam.decode(features, points, boxes).object_scores, there=False)

        return checkpoint(loss, points, boxes, use_reentrant=False, preserve_rng_state=False)

    def _rounds(
        self, sam: PromptableSam, features: Features, objects: Tensor, valid: Tensor, numbers: Tensor, box_first: bool
    ) -> Tensor:
        """The loss of K objects, (K,), over the first prompt and all corrections."""
        if not len(numbers):
            return features["embedding"].new_zeros(0)
        truth = objects == numbers[:, None, None]
        points, boxes, masks, answer = None, None, None, None
        if box_first:
            boxes = jittered(boxes_of(truth), self.prompts.box_jitter, *objects.shape)
        else:
            points = _positive(random_pixels(truth)[0])
        losses = []
        for number in range(1 + self.prompts.rounds):
            if number > 0:
                mask = enlarged_to(answer, sam.image_size)[:, 0] > 0
                more = corrections(truth, mask, valid, self.prompts.ring)
                points = more if points is None else tuple(torch.cat(pair, dim=1) for pair in zip(points, more))
                masks = answer if torch.rand(()) < self.prompts.mask else None
            loss, answer = checkpoint(
                self._answer, sam, features, objects, valid, numbers, points, boxes, masks,
                number == 0 and not box_first, use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
            losses.append(loss)
        return torch.stack(losses).mean(0)

    def _answer(self, sam, features, objects, valid, numbers, points, boxes, masks, multimask) -> tuple[Tensor, Tensor]:
        """The loss (K,) of one round, and the answer that SAM itself thinks best (K, 1, 4h, 4w), without its graph.

        Computed again in the backward pass, truth and all, so that a round leaves no activations behind.
        """
        logits, ious, scores = sam.decode(features, points, boxes, masks, multimask)
        truth = objects == numbers[:, None, None]
        loss = self.criterion(enlarged_to(logits, sam.image_size), truth, valid, ious)
        if self.prompts.absent > 0:
            loss = loss + _score_loss(scores, there=True)
        best = ious.argmax(1)
        return loss, logits.detach()[torch.arange(len(best), device=best.device), best][:, None]


def _positive(points: Tensor) -> tuple[Tensor, Tensor]:
    """One point on each of K objects, (K, 2), as SAM's prompt encoder takes it."""
    return points[:, None], torch.full((len(points), 1), POSITIVE, device=points.device, dtype=torch.int)


def _score_loss(scores: Tensor, there: bool) -> Tensor:
    """Cross entropy of object scores (K,), logits, as SAM 2 was trained (K,)."""
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(there)), reduction="none")
