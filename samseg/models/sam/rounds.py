"""How a SAM is trained with prompts: an image is embedded once, then its objects are prompted for in rounds."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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
from samseg.models.sam.summed import summed

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
        """The loss of a batch.

        ``{"image": (B, 3, S, S) or "taps": stored ones, "objects": (B, S, S) int, "valid": (B, S, S) bool}``, object
        numbers and 0 for none -> ``{"loss": (), the sum over the objects, or "logits": (B, C, S, S) in a step without
        prompts, and "nothing": 0}``. The latter depends on every parameter, for in a step some have no part, which
        several processes would stop on.
        """
        features = sam.embed(inputs["taps"] if "taps" in inputs else inputs["image"])
        nothing = sum(0 * maps.sum() for maps in features.values() if maps.requires_grad)
        for part in filter(None, (sam.mask_decoder, sam.class_tokens)):
            nothing = nothing + 0 * sum(parameter.sum() for parameter in part.parameters() if parameter.requires_grad)
        if sam.class_tokens is not None and torch.rand(()) < self.prompts.none:
            return {"logits": sam.without_prompts(features, inputs["objects"].shape[1:]), "nothing": nothing}
        box_first = bool(torch.rand(()) < self.prompts.box)

        def losses(*maps: Tensor) -> Iterator[Tensor]:
            for index, (objects, valid) in enumerate(zip(inputs["objects"], inputs["valid"], strict=True)):
                of_this = of_image(dict(zip(features, maps, strict=True)), index)
                yield from self._of_image(sam, of_this, objects, valid, box_first)

        learning = [parameter for parameter in sam.mask_decoder.parameters() if parameter.requires_grad]
        with _without_half(features["embedding"].device.type):
            return {"loss": summed(losses, [maps.float() for maps in features.values()], learning), "nothing": nothing}

    def _of_image(
        self, sam: PromptableSam, features: Features, objects: Tensor, valid: Tensor, box_first: bool
    ) -> Iterator[Tensor]:
        """The losses of objects drawn from one image's map, a few at a time: of each round its share of the mean, of
        prompts for objects that are not there."""
        numbers = drawn_objects(objects, self.prompts.min_pixels, self.prompts.objects)
        for part in numbers.split(sam.objects_at_once):
            if self.prompts.absent > 0 and len(part):
                boxes, vacant = vacant_boxes(boxes_of(objects == part[:, None, None]), (objects == 0) & valid)
                absent = vacant & (torch.rand(len(part), device=part.device) < self.prompts.absent)
                if absent.any():
                    yield self._absent(sam, features, boxes[absent], objects.shape, box_first)
                part = part[~absent]
            if len(part):
                for loss in self._rounds(sam, features, objects == part[:, None, None], valid, box_first):
                    yield loss / (1 + self.prompts.rounds)

    def _absent(
        self, sam: PromptableSam, features: Features, boxes: Tensor, shape: tuple[int, int], box_first: bool
    ) -> Tensor:
        """The loss of prompts for objects that are not there, in boxes (K, 4): of the object score alone, added up."""
        if box_first:
            points, boxes = None, jittered(boxes, self.prompts.box_jitter, *shape)
        else:
            points, boxes = _positive((boxes[:, :2] + boxes[:, 2:] - 1) / 2), None
        return _score_loss(sam.decode(features, points, boxes).object_scores, there=False)

    def _rounds(
        self, sam: PromptableSam, features: Features, truth: Tensor, valid: Tensor, box_first: bool
    ) -> Iterator[Tensor]:
        """The losses of K objects (K, S, S) bool, added up, of the first answer and of that to each correction."""
        points, boxes, masks, answer = None, None, None, None
        if box_first:
            boxes = jittered(boxes_of(truth), self.prompts.box_jitter, *valid.shape)
        else:
            points = _positive(random_pixels(truth)[0])
        for number in range(1 + self.prompts.rounds):
            if number > 0:
                mask = enlarged_to(answer, sam.image_size)[:, 0] > 0
                more = corrections(truth, mask, valid, self.prompts.ring)
                points = more if points is None else tuple(torch.cat(pair, dim=1) for pair in zip(points, more))
                masks = answer if torch.rand(()) < self.prompts.mask else None
            logits, ious, scores = sam.decode(features, points, boxes, masks, number == 0 and not box_first)
            best = ious.argmax(1)  # SAM itself thinks so
            answer = logits.detach()[torch.arange(len(best), device=best.device), best][:, None]
            loss = self._loss(logits, ious, truth, valid)
            yield loss + _score_loss(scores, there=True) if self.prompts.absent > 0 else loss

    def _loss(self, logits: Tensor, ious: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """The losses of answers, added up; one object's at a time, which stays in the caches at the network's size."""

        def losses(logits: Tensor, ious: Tensor) -> Iterator[Tensor]:
            for answers, one, predicted in zip(logits.split(1), truth.split(1), ious.split(1), strict=True):
                yield self.criterion(enlarged_to(answers, valid.shape[0]), one, valid, predicted).sum()

        return summed(losses, (logits, ious))


def _positive(points: Tensor) -> tuple[Tensor, Tensor]:
    """One point on each of K objects, (K, 2), as SAM's prompt encoder takes it."""
    return points[:, None], torch.full((len(points), 1), POSITIVE, device=points.device, dtype=torch.int)


def _score_loss(scores: Tensor, there: bool) -> Tensor:
    """Cross entropy of object scores (K,), logits, as SAM 2 was trained; added up."""
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(there)), reduction="sum")


def _without_half(device: str) -> AbstractContextManager:
    """Autocast to float16 turned off: its gradients want the loss scaled, which it is behind the forward pass."""
    half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return torch.autocast(device, enabled=False) if half else nullcontext()
