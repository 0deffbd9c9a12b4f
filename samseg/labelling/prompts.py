"""What was drawn in Label Studio to ask for an object, as SAM's prompts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle

from samseg.common.errors import InputError
from samseg.data.sources.label_studio import region_outline
from samseg.inference.objects.find import middles

MOST_POINTS = 8  # of a brush stroke


@dataclass(frozen=True)
class Prompts:
    """Points and a box in an image's pixels, and the label that was chosen.

    Attributes:
        points: (N, 2) as x, y.
        positive: (N,), 1 on the object, 0 beside it.
        box: (left, top, right, bottom), or None.
        label: of the object.
    """

    points: np.ndarray
    positive: np.ndarray
    box: np.ndarray | None
    label: str | None

    @classmethod
    def read(cls, regions: list[dict[str, Any]], shape: tuple[int, int]) -> "Prompts":
        """Regions, in the order in which they were drawn, of an image (H, W).

        Keypoints are points, brush strokes a few points in their middle, and of rectangles, polygons and ellipses the
        last one's bounds are the box. InputError for regions of an image of another size, or turned there.
        """
        points: list[tuple[float, float]] = []
        positive: list[int] = []
        box = label = None
        for region in regions:
            try:
                value = region["value"]
                width, height = region["original_width"], region["original_height"]
                if (height, width) != shape:
                    raise InputError(
                        f"Label Studio shows the image as {width} x {height} pixels, and it has {shape[1]} x {shape[0]}"
                    )
                if region.get("image_rotation"):
                    raise InputError("the image was turned in Label Studio, which is not answered; turn it back")
                yes = bool(region.get("is_positive", True))
                label = (value.get(region["type"]) or [label])[0] if yes else label
                outline = region_outline(value | {"original_width": width, "original_height": height})
                if outline is None:
                    found = [(value["x"] * width / 100, value["y"] * height / 100)]
                elif isinstance(outline, dict):
                    found = middles(rle.decode(outline) > 0)[:MOST_POINTS]
                else:
                    corners = np.concatenate([np.reshape(ring, (-1, 2)) for ring in outline])
                    found, box = [], np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(
                    f"a region from Label Studio cannot be read ({type(error).__name__}: {error})"
                ) from None
            points += found
            positive += [int(yes)] * len(found)
        if box is None and not points:
            raise InputError("nothing was drawn; click on an object, or draw a box around it")
        if not np.isfinite([*np.ravel(points), *([] if box is None else box)]).all():
            raise InputError("a region from Label Studio cannot be read: its coordinates are not finite")
        return cls(np.array(points, float).reshape(-1, 2), np.array(positive, int), box, label)
