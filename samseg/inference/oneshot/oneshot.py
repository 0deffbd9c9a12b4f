"""Segment what one example shows, without training: PerSAM, and PerSAM-F with two learnt numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samseg.common.errors import InputError
from samseg.inference.oneshot import persam
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.hq import MaskDecoderHQ
from samseg.models.sam.predictor import SamPredictor, check_image

LEAST = 0.8  # a further object is kept if its similarity is at least this share of the first one's


@dataclass(frozen=True)
class FoundObject:
    """An object in an image.

    Attributes:
        label: of its class, as the reference masks have it.
        mask: (H, W) bool, at the image's own size.
        score: the IoU that SAM predicts for its mask.
        similarity: the cosine with the class's target at the object's point.
        point: (x, y) in pixels, where it resembles the target most.
    """

    label: int
    mask: np.ndarray
    score: float
    similarity: float
    point: tuple[int, int]


@dataclass(frozen=True)
class Reference:
    """What the examples say of a class: its features (C,), and PerSAM-F's weights (3,) of SAM's masks, if learnt."""

    features: Tensor
    weights: Tensor | None


class OneShot:
    """SAM personalised by examples: it finds in other images what their masks mark.

    Examples:
        >>> oneshot = samseg.OneShot(samseg.build_sam("sam_vit_b.pth"), [(image, mask)])
        >>> classes = oneshot(another)

    Args:
        sam: a whole SAM, as `build_sam` gives it.
        references: pairs of an image (H, W, 3) uint8 and its mask (H, W): 0 is background, any other value a class. The
            targets of several pairs are averaged.
        fine_tune: learn how to mix SAM's three masks (PerSAM-F), in seconds; False: PerSAM, which learns nothing.
        objects: the most to find of a class in an image.
        least: a further object is kept if its similarity is at least this share of the first one's.

    Raises:
        InputError: a mask is empty or of another size than its image, there is none, or SAM-HQ is to be fine-tuned.
    """

    def __init__(
        self,
        sam: PromptableSam,
        references: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        fine_tune: bool = False,
        objects: int = 1,
        least: float = LEAST,
    ):
        if not references:
            raise InputError("one example is needed at least: an image and the mask of what to find in it")
        if objects < 1:
            raise InputError(f"the number of objects to find of a class must be at least 1, got {objects}")
        if fine_tune and isinstance(sam.mask_decoder, MaskDecoderHQ):
            raise InputError("fine_tune learns how to mix SAM's three masks, but SAM-HQ answers with one: leave it out")
        self.predictor = SamPredictor(sam)
        self.stride = sam.encoder.tap_strides[-1]  # of the embedding; that of masks is a quarter of it
        self.fine_tune, self.objects, self.least = fine_tune, objects, least
        for number, (image, mask) in enumerate(references, start=1):
            _check_pair(image, mask, f"reference {number}")
        with torch.no_grad():
            self.targets = self._learn(references)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The class of each pixel (H, W), as the reference masks number them; 0 where nothing was found."""
        return self.classes(self.find(image), image.shape[:2])

    @torch.no_grad()
    def find(self, image: np.ndarray) -> list[FoundObject]:
        """The objects in an image (H, W, 3) uint8, class by class, the most similar first."""
        self.predictor.set_image(image)
        return [found for label in sorted(self.targets) for found in self._find(label, self.targets[label])]

    def classes(self, found: Sequence[FoundObject], shape: tuple[int, int]) -> np.ndarray:
        """The class map (H, W) of what `find` gave: a pixel in several masks goes to the highest score."""
        classes = np.zeros(shape, np.uint8 if max(self.targets) < 256 else np.uint16)
        for one in sorted(found, key=lambda one: one.score):
            classes[one.mask] = one.label
        return classes

    def _learn(self, references: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[int, Reference]:
        """Each class's target, from all the references that show it."""
        targets: dict[int, list[Tensor]] = {}
        answers: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for image, mask in references:
            self.predictor.set_image(image)
            for label in np.unique(mask[mask > 0]).tolist():
                marked = torch.as_tensor(mask == label, device=self.predictor.device)
                covered = persam.coverage(marked, self.predictor.transform, self.stride)
                target = persam.target_of(self._embedding(), covered, self.fine_tune)
                targets.setdefault(label, []).append(target)
                if self.fine_tune:
                    answers.setdefault(label, []).append(self._answer_and_truth(target, marked))
        with torch.enable_grad():
            weights = {label: persam.mask_weights(pairs) for label, pairs in answers.items()}
        return {label: Reference(torch.stack(some).mean(dim=0), weights.get(label)) for label, some in targets.items()}

    def _embedding(self) -> Tensor:
        """The set image's, (C, h, w)."""
        return self.predictor.features["embedding"][0]

    def _similarity(self, target: Tensor) -> Tensor:
        """How much each pixel (H, W) of the set image resembles a target (C,)."""
        return persam.similarity_map(self._embedding(), target, self.predictor.transform, self.predictor.shapes[0])

    def _around(self, x: int, y: int) -> tuple[slice, slice]:
        """The rows and columns of the set image within a cell of its embedding around a point."""
        shape = self.predictor.shapes[0]
        inner = self.predictor.transform.inner(shape)
        rows, columns = (max(1, round(self.stride * side / own)) for side, own in zip(shape, inner, strict=True))
        return slice(max(0, y - rows), y + rows + 1), slice(max(0, x - columns), x + columns + 1)

    def _answer_and_truth(self, target: Tensor, marked: Tensor) -> tuple[Tensor, Tensor]:
        """SAM's three masks (3, N) for the most similar point of the set reference, and its own mask (N,), both small.

        The reference code compares them at the image's size, in which SAM's masks are these, enlarged.
        """
        similarity = self._similarity(target)
        _, _, logits = self._predict(*_points(similarity, negative=False), multimask_output=True)
        transform, stride = self.predictor.transform, self.stride / 4
        height, width = (math.ceil(length / stride) for length in transform.inner(marked.shape))
        truth = persam.coverage(marked, transform, stride)[:height, :width] > 0.5
        logits = torch.as_tensor(logits[:, :height, :width], device=truth.device)
        return logits.flatten(1), truth.flatten().float()

    def _find(self, label: int, target: Reference) -> list[FoundObject]:
        similarity = self._similarity(target.features)
        found: list[FoundObject] = []
        taken = torch.zeros_like(similarity, dtype=torch.bool)
        for _ in range(self.objects):
            peak = similarity.max().item()
            if found and peak < self.least * found[0].similarity:
                break
            points, labels = _points(similarity, negative=target.weights is None)
            mask, score = self._segment(similarity, target, points, labels)
            fresh = torch.as_tensor(mask, device=taken.device) & ~taken
            x, y = points[0].tolist()
            if fresh.any():
                found.append(FoundObject(label, fresh.cpu().numpy(), score, peak, (x, y)))
            taken |= fresh
            taken[self._around(x, y)] = True  # a mask beside its own point must not bring it back
            similarity = similarity.masked_fill(taken, 0.0)
            if taken.all():
                break
        return found

    def _segment(
        self, similarity: Tensor, target: Reference, points: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """The mask (H, W) bool of the object at the points, and its score: a first answer and two refinements."""
        if target.weights is None:
            attention = persam.attention_map(similarity, self.predictor.transform, self.stride)
            with persam.guided(self.predictor.model.mask_decoder, attention, target.features):
                _, _, logits = self._predict(points, labels, multimask_output=False)
            masks, scores, logits = self._predict(points, labels, mask_input=logits, multimask_output=True)
        else:
            weights = target.weights.cpu().numpy()[:, None, None]
            logits_at_size, _, logits = self._predict(points, labels, multimask_output=True, return_logits=True)
            mask, logits = (weights * logits_at_size).sum(0) > 0, (weights * logits).sum(0)[None]
            masks, scores, logits = self._predict(
                points, labels, box=_box(mask), mask_input=logits, multimask_output=True
            )
        best = scores.argmax()
        masks, scores, _ = self._predict(
            points, labels, box=_box(masks[best]), mask_input=logits[best : best + 1], multimask_output=True
        )
        return masks[scores.argmax()], float(scores.max())

    def _predict(self, points: np.ndarray, labels: np.ndarray, **prompts) -> tuple[np.ndarray, ...]:
        return self.predictor.predict(point_coords=points, point_labels=labels, **prompts)


def _points(similarity: Tensor, negative: bool) -> tuple[np.ndarray, np.ndarray]:
    """The most similar pixel as a positive point (x, y), and the least similar one as a negative point if asked for."""
    width = similarity.shape[1]
    where = [similarity.argmax().item()] + ([similarity.argmin().item()] if negative else [])
    return np.array([(index % width, index // width) for index in where]), np.array([1, 0][: len(where)])


def _box(mask: np.ndarray) -> np.ndarray | None:
    """The corners (x, y, x, y) of a mask (H, W) bool; None if it is empty: then no box is given."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1], rows[-1]])


def _check_pair(image: np.ndarray, mask: np.ndarray, name: str) -> None:
    check_image(image, name)
    if mask.shape != image.shape[:2]:
        raise InputError(
            f"{name}: the mask has shape {mask.shape}, its image {image.shape[:2]}; it must be (H, W) of the same size"
        )
    if not (mask > 0).any():
        raise InputError(f"{name}: the mask is empty; mark what is to be found with values above 0")
