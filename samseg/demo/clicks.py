"""Clicks and boxes on one image, and SAM's mask for them."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.predictor import SamPredictor
from samseg.predict.draw import overlay

POSITIVE, NEGATIVE, BOX = "object", "not the object", "box: two corners"
COLOURS = {POSITIVE: (0, 200, 80), NEGATIVE: (225, 20, 90), BOX: (86, 180, 233)}


@dataclass
class Clicks:
    """One visitor's image, embedded once, and what was clicked on it, in order: (kind, x, y)."""

    predictor: SamPredictor
    image: np.ndarray
    clicked: list[tuple[str, int, int]] = field(default_factory=list)

    @classmethod
    def on(cls, sam: PromptableSam, image: np.ndarray) -> "Clicks":
        """Embed an image (H, W, 3) uint8."""
        predictor = SamPredictor(sam)
        predictor.set_image(image)
        return cls(predictor, image)

    def add(self, kind: str, x: int, y: int) -> "Clicks":
        """Add a click at a pixel."""
        self.clicked.append((kind, x, y))
        return self

    def take_back(self, count: int | None = None) -> "Clicks":
        """Forget the last clicks, or all of them."""
        del self.clicked[-count if count is not None else 0 :]
        return self

    def mask(self) -> tuple[np.ndarray, float] | None:
        """The mask (H, W) bool for what was clicked, and the IoU that SAM predicts for it; None before a click.

        One point alone may mean a part or the whole: of SAM's three masks for it, the one it trusts most.
        """
        points = [(x, y, kind == POSITIVE) for kind, x, y in self.clicked if kind != BOX]
        box = self._box()
        if not points and box is None:
            return None
        masks, scores, _ = self.predictor.predict(
            point_coords=np.array([point[:2] for point in points]) if points else None,
            point_labels=np.array([int(point[2]) for point in points]) if points else None,
            box=box,
            multimask_output=len(points) == 1 and box is None,
        )
        best = int(scores.argmax())
        return masks[best], float(scores[best])

    def picture(self, mask: np.ndarray | None) -> np.ndarray:
        """The image with the mask, the clicks and the box on it."""
        picture = self.image.copy() if mask is None else overlay(self.image, mask.astype(np.uint8), background=0)
        size = max(3, max(picture.shape[:2]) // 150)
        for kind, x, y in self.clicked:
            cv2.circle(picture, (x, y), size + 2, (255, 255, 255), -1)
            cv2.circle(picture, (x, y), size, COLOURS[kind], -1)
        if (box := self._box()) is not None:
            cv2.rectangle(picture, tuple(box[:2].tolist()), tuple(box[2:].tolist()), COLOURS[BOX], max(2, size // 2))
        return picture

    def _box(self) -> np.ndarray | None:
        """The last whole box (left, top, right, bottom)."""
        corners = [(x, y) for kind, x, y in self.clicked if kind == BOX]
        if len(corners) < 2:
            return None
        start = (len(corners) // 2 - 1) * 2
        pair = np.array(corners[start : start + 2])
        return np.concatenate([pair.min(0), pair.max(0)])
