"""Masks as outlines along the edges of their pixels."""

import cv2
import numpy as np


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outline (N, 2) as x, y of each connected part (8 neighbours) of a mask (H, W) bool, along the pixels' edges.

    x and y are whole numbers from 0 to the width and height. Parts that touch in a corner are one, and holes are not
    cut out.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    # Four pixels for each: which of them a contour of OpenCV, which goes from pixel to pixel, passes says which corner.
    doubled = mask[top : top + height, left : left + width].astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [_corners((contour[:, 0] + 1) // 2) + (left, top) for contour in found]


def _corners(points: np.ndarray) -> np.ndarray:
    """Those of the ``points`` (N, 2) of a ring at which it turns."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    steps = np.roll(points, -1, axis=0) - points
    return points[(np.sign(steps) != np.sign(np.roll(steps, 1, axis=0))).any(axis=1)]
