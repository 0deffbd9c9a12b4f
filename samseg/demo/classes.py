"""A trained run's answer to one image, and the pictures that show it."""

import base64
import json
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
import torch

from samseg.data.preprocess import resized_shape
from samseg.data.raster import Raster
from samseg.inference.predictor import Predictor
from samseg.predict.draw import background_of, overlay, palette
from samseg.predict.rows import likeliest

DIFFERENT = (225, 20, 90)
VALUES_PX = 2048


@dataclass(frozen=True)
class Answer:
    """A run's prediction for an image.

    Attributes:
        names: of the classes.
        picture: the image (H, W, 3) uint8 as the network was shown it.
        classes: (H, W) uint8.
        probability: (H, W) uint8, of the likeliest class, 255 is 1.
        uncertainty: (H, W) uint8, the entropy of the probabilities, 255 is that of a guess.
    """

    names: list[str]
    picture: np.ndarray
    classes: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray

    def at(self, x: int, y: int) -> str:
        """Describe the prediction at a pixel."""
        probability = self.probability[y, x] / 255
        return f"({x}, {y}): **{self.names[self.classes[y, x]]}**, probability {probability:.2f}"


def answer(predictor: Predictor, image: Raster, tile: bool | None) -> Answer:
    """Classify an image: in tiles (True), as a whole (False), or as the run was trained (None)."""
    predictor = Predictor(predictor.model, predictor.config, predictor.device, tile=tile)
    classes, probability, uncertainty = np.empty((3, *image.pixels.shape[1:]), np.uint8)
    for rows, logits in predictor.rows(image):
        log = logits.log_softmax(dim=0)
        entropy = -(log.exp() * log).sum(dim=0) / np.log(max(2, len(log)))
        stack = torch.stack([log.max(dim=0).values.exp(), entropy]).clamp(0, 1)
        classes[rows] = likeliest(logits)
        probability[rows], uncertainty[rows] = (255 * stack).round().byte().cpu().numpy()
    return Answer(predictor.classes, predictor.preprocessing.picture(image), classes, probability, uncertainty)


def blended(found: Answer, opacity: float) -> np.ndarray:
    """The classes' colours over the image, (H, W, 3) uint8, as samseg infer draws them: "background" is left clear."""
    return overlay(found.picture, found.classes, background_of(found.names), opacity)


def uncertainty_map(found: Answer) -> np.ndarray:
    """Dark where the run is sure, bright where it guesses, (H, W, 3) uint8."""
    return cv2.applyColorMap(found.uncertainty, cv2.COLORMAP_INFERNO)[..., ::-1].copy()


def difference_map(one: Answer, other: Answer) -> tuple[np.ndarray, float]:
    """The image in pale grey with the pixels in red that two answers disagree about, and their share."""
    differs = one.classes != other.classes
    grey = (one.picture.mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.5 + 110).astype(np.uint8)
    grey[differs] = DIFFERENT
    return grey, float(differs.mean())


def values(found: Answer) -> str:
    """Classes and probabilities for the browser to look up, as HTML that shows nothing.

    A picture of at most `VALUES_PX` a side whose red is the class and whose green is 255 times its probability, with
    the names of the classes beside it.
    """
    height, width = resized_shape(*found.classes.shape, min(VALUES_PX, max(found.classes.shape)))
    layers = np.stack([np.zeros_like(found.classes), found.probability, found.classes], axis=-1)  # blue, green, red
    small = cv2.resize(layers, (width, height), interpolation=cv2.INTER_NEAREST)
    picture = base64.b64encode(cv2.imencode(".png", small)[1].tobytes()).decode()
    return f'<img hidden src="data:image/png;base64,{picture}" data-names="{escape(json.dumps(found.names))}">'


def legend(found: Answer, title: str = "") -> str:
    """The classes with their colours and shares of the image, as HTML under a ``title``."""
    shares = np.bincount(found.classes.ravel(), minlength=len(found.names)) / found.classes.size
    rows = [
        f"<div><i style='display:inline-block;width:1em;height:1em;margin-right:.5em;border-radius:3px;"
        f"vertical-align:-.15em;background:rgb{rgb}'></i>{escape(name)} {100 * share:.1f} %</div>"
        for name, rgb, share in zip(found.names, palette(len(found.names)), shares, strict=True)
    ]
    return f"<div class='legend'><b>{escape(title)}</b>{''.join(rows)}</div>"
