"""How a SAM is trained with prompts: an image is embedded once, then its objects are prompted for in rounds."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
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
        numbers = drawn_objects(objects, self.prompts.min_pixels, self.prompts.objects)
        some = numbers.split(sam.objects_at_once)
        return torch.cat([self._rounds(sam, features, objects, valid, part, box_first) for part in some])

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
            first = random_pixels(truth)[0][:, None]
            points = first, torch.full(first.shape[:2], POSITIVE, device=first.device, dtype=torch.int)
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
        logits, ious, _ = sam.decode(features, points, boxes, masks, multimask)
        truth = objects == numbers[:, None, None]
        loss = self.criterion(enlarged_to(logits, sam.image_size), truth, valid, ious)
        best = ious.argmax(1)
        return loss, logits.detach()[torch.arange(len(best), device=best.device), best][:, None]
