"""How well borders are met: boundary F1 (Csurka et al., "What is a good evaluation measure for semantic segmentation?",
BMVC 2013)."""

import cv2
import numpy as np

from samseg.data.classes import IGNORE_INDEX
from samseg.predict.draw import borders

TOLERANCE_PX = 2


def boundary_counts(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Border pixels of one image by class: (classes, 4) int64.

    Columns: predicted border pixels, those of them with a true border pixel of the class within `TOLERANCE_PX`
    (Euclidean), true border pixels, those of them with a predicted one so near. A border pixel has a neighbour (above,
    below, left, right) of another class; ignored pixels (255 in ``truth``) and the image's edge make no border.
    """
    prediction = np.where(truth == IGNORE_INDEX, IGNORE_INDEX, prediction)
    edges = [borders(labels, IGNORE_INDEX) for labels in (prediction, truth)]
    counts = np.zeros((classes, 4), np.int64)
    for index in range(classes):
        found, true = ((labels == index) & border for labels, border in zip((prediction, truth), edges, strict=True))
        if found.any() or true.any():
            counts[index] = found.sum(), (found & _near(true)).sum(), true.sum(), (true & _near(found)).sum()
    return counts


def boundary_f1(counts: np.ndarray) -> np.ndarray:
    """F1 (...) of counts (..., 4); NaN where there is no border in truth or prediction."""
    predicted, hit, true, met = np.moveaxis(np.asarray(counts, float), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hit / predicted, met / true
        score = 2 * precision * recall / (precision + recall)
    return np.where((predicted + true > 0) & np.isnan(score), 0.0, score)


def _near(border: np.ndarray) -> np.ndarray:
    y, x = np.ogrid[-TOLERANCE_PX : TOLERANCE_PX + 1, -TOLERANCE_PX : TOLERANCE_PX + 1]
    disk = (x**2 + y**2 <= TOLERANCE_PX**2).astype(np.uint8)
    return cv2.dilate(border.astype(np.uint8), disk) > 0
