"""Pictures of prompts and answers, for a run's `validation.png`."""

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from samseg.predict.draw import COLOURS, overlay, palette

LEAST_SIDE = 420  # px: small images are enlarged before lines are drawn


def objects_over(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 with objects (K, H, W) bool tinted, each in a colour of its own."""
    numbers = np.zeros(image.shape[:2], np.uint8)
    for index, mask in enumerate(masks):
        numbers[mask] = 1 + index % (COLOURS - 1)
    return overlay(image, numbers)


def boxes_over(image: np.ndarray, boxes: Tensor) -> np.ndarray:
    """The image (H, W, 3) uint8, enlarged if it is small, with boxes (K, 4) drawn in the objects' colours."""
    scale = max(1, -(-LEAST_SIDE // max(image.shape[:2])))
    picture = Image.fromarray(image).resize((image.shape[1] * scale, image.shape[0] * scale), Image.Resampling.NEAREST)
    draw, colours = ImageDraw.Draw(picture), palette(COLOURS)
    for index, (left, top, right, bottom) in enumerate((boxes * scale).tolist()):
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colours[1 + index % (COLOURS - 1)], width=2)
    return np.asarray(picture)
