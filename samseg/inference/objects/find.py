"""Objects instead of classes: from a dense class map, from prompts made of one, or by SAM's automatic generator."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator

from samseg.data.classes import IGNORE_INDEX
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.predictor import SamPredictor

POINTS_AT_ONCE = 32  # decoded together: bounds the memory
MOST_OVERLAP = 0.5  # a mask with a larger share of its pixels in better masks is the same object, or a part of one


@dataclass(frozen=True)
class Objects:
    """The objects of an image.

    Attributes:
        map: (H, W) int32, 0 for none, else the object's number from 1.
        classes: each object's class, in the order of their numbers.
        scores: each object's predicted IoU, which SAM may put a little above 1, or the mean probability of its class;
            1 where nothing predicts it.
    """

    map: np.ndarray
    classes: list[int]
    scores: list[float]


def by_components(
    classes: np.ndarray, background: int | None = 0, min_pixels: int = 1, probabilities: np.ndarray | None = None
) -> Objects:
    """Every connected area (8 neighbours) of a class is an object.

    Args:
        classes: (H, W) uint8; 255 is no class.
        background: a class without objects; None: all have them.
        min_pixels: smaller areas are dropped.
        probabilities: (H, W) float32, each pixel's of its class; an object's score is their mean.
    """
    numbers = np.zeros(classes.shape, np.int32)
    labels: list[int] = []
    for label, area in _areas(classes, background, min_pixels):
        labels.append(label)
        numbers[area] = len(labels)
    if probabilities is None:
        return Objects(numbers, labels, [1.0] * len(labels))
    sums = np.bincount(numbers.ravel(), probabilities.ravel(), len(labels) + 1)
    return Objects(numbers, labels, (sums / np.maximum(np.bincount(numbers.ravel()), 1))[1:].tolist())


def by_prompts(
    sam: PromptableSam, image: np.ndarray, classes: np.ndarray, background: int | None = 0, min_pixels: int = 1
) -> Objects:
    """SAM's masks for points in the middle of what a class map shows, which parts objects that touch.

    After micro-sam's automatic prompt generation (Archit et al., 2025): the maxima of the distance transform of each
    connected area are positive points; of SAM's three masks for a point the one of the highest predicted IoU stands.

    Args:
        sam: a whole SAM.
        image: (H, W, 3) uint8.
        classes, background, min_pixels: as `by_components`; an object has the class at its point.
    """
    points, labels = [], []
    for label, area in _areas(classes, background, min_pixels):
        for point in middles(area):
            points.append(point)
            labels.append(label)
    if not points:
        return Objects(np.zeros(classes.shape, np.int32), [], [])
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    at_size = predictor.transform.apply_coords(np.array(points, float), image.shape[:2])
    coordinates = torch.as_tensor(at_size, dtype=torch.float, device=predictor.device)[:, None]
    masks, scores = [], []
    for some in coordinates.split(POINTS_AT_ONCE):
        ones = torch.ones(some.shape[:2], dtype=torch.int, device=some.device)
        answers, ious, _ = predictor.predict_torch(some, ones, multimask_output=True)
        best = ious.argmax(dim=1)
        each = torch.arange(len(best), device=best.device)
        masks += list(answers[each, best].cpu().numpy())
        scores += ious[each, best].tolist()
    return _painted(masks, scores, labels, classes.shape, min_pixels)


def by_generator(
    sam: PromptableSam,
    image: np.ndarray,
    classes: np.ndarray | None = None,
    background: int | None = 0,
    min_pixels: int = 1,
    **settings: float,
) -> Objects:
    """SAM's automatic masks: a grid of points over the image, filtered by predicted IoU and stability.

    Args:
        sam: a whole SAM.
        image: (H, W, 3) uint8.
        classes: (H, W) uint8; an object has the class of most of its pixels, and none is made of the background. None:
            all are of class 1.
        background, min_pixels: as `by_components`.
        settings: of segment-anything's `SamAutomaticMaskGenerator`; by default those that the SAM was published with.
    """
    masks, scores, labels = [], [], []
    generator = SamAutomaticMaskGenerator(sam, **sam.grid | settings)
    generator.predictor = SamPredictor(sam)
    for one in generator.generate(image):
        label = 1 if classes is None else int(np.bincount(classes[one["segmentation"]]).argmax())
        if classes is None or label not in (background, IGNORE_INDEX):
            masks.append(one["segmentation"])
            scores.append(float(one["predicted_iou"]))
            labels.append(label)
    return _painted(masks, scores, labels, image.shape[:2], min_pixels)


def middles(area: np.ndarray) -> list[tuple[int, int]]:
    """A point (x, y) in pixels at each maximum of the distance to the edge within an area (H, W) bool.

    Of maxima nearer to each other than the lower one's distance the higher stays, so that a ragged edge makes none.
    """
    rows, columns = (np.flatnonzero(area.any(axis=axis)) for axis in (1, 0))
    top, left = rows[0], columns[0]
    crop = area[top : rows[-1] + 1, left : columns[-1] + 1]
    distance = cv2.distanceTransform(np.pad(crop, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = cv2.GaussianBlur(distance, (0, 0), 1)[1:-1, 1:-1]
    peaks = np.argwhere((distance == cv2.dilate(distance, np.ones((3, 3)))) & crop)
    chosen: list[np.ndarray] = []
    for peak in peaks[np.argsort(-distance[tuple(peaks.T)], kind="stable")]:
        if all(np.linalg.norm(peak - other) > distance[tuple(peak)] for other in chosen):
            chosen.append(peak)
    return [(int(left + x), int(top + y)) for y, x in chosen]


def _areas(classes: np.ndarray, background: int | None, min_pixels: int) -> Iterator[tuple[int, np.ndarray]]:
    """(class, area (H, W) bool) of each connected area, class by class."""
    for label in np.unique(classes).tolist():
        if label in (background, IGNORE_INDEX):
            continue
        _, numbers, boxes, _ = cv2.connectedComponentsWithStats((classes == label).astype(np.uint8), connectivity=8)
        for number in range(1, len(boxes)):
            if boxes[number, cv2.CC_STAT_AREA] >= min_pixels:
                yield label, numbers == number


def _painted(
    masks: list[np.ndarray], scores: list[float], labels: list[int], shape: tuple[int, int], min_pixels: int
) -> Objects:
    """Masks (H, W) bool as one map, the best first; non-maximum suppression by the share that better masks hold."""
    numbers = np.zeros(shape, np.int32)
    kept: list[int] = []
    for index in np.argsort(-np.array(scores), kind="stable").tolist():
        free = masks[index] & (numbers == 0)
        if free.sum() >= max(min_pixels, 1) and free.sum() >= (1 - MOST_OVERLAP) * masks[index].sum():
            kept.append(index)
            numbers[free] = len(kept)
    return Objects(numbers, [labels[index] for index in kept], [scores[index] for index in kept])
