"""Objects as Label Studio's predictions, and a labelling interface that takes them."""

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np

from samseg.data.formats import brush_rle
from samseg.inference.objects.find import Objects
from samseg.inference.objects.outlines import outlines
from samseg.predict.draw import palette

BRUSH, POLYGON = "brushlabels", "polygonlabels"  # kinds of regions
PROMPTS = ("KeyPointLabels", "RectangleLabels")  # tags whose regions ask a backend, where they are smart
MESSAGES = "samseg"  # the name of a <TextArea> in which a backend says why it does not answer
TOLERANCE = 1  # pixels by which a polygon may leave the outline: one with a corner at each pixel is not to be edited


def prediction(
    objects: Objects,
    names: Sequence[str],
    made_by: str,
    *,
    kind: str = BRUSH,
    control: str = "tag",
    image: str = "image",
    prefix: str = "object",
) -> dict[str, Any]:
    """Objects as a prediction, or what a backend answers, scored by their mean; scores are cut to 0 to 1.

    A brush stroke is exact. A polygon goes along the edges of pixels to within `TOLERANCE`; there is one for each
    part of an object, and holes are not cut out.

    Args:
        objects: of an image.
        names: of the classes.
        made_by: the model's version.
        kind: of the regions.
        control, image: names of the tags that the regions are from, and on.
        prefix: of the regions' ids.
    """
    height, width = objects.map.shape
    scores = np.clip(objects.scores, 0, 1).tolist()  # SAM's predicted IoU may be above 1, which is refused
    result = []
    for number, (label, score) in enumerate(zip(objects.classes, scores, strict=True), start=1):
        for value in _values(objects.map == number, kind):
            result.append(
                {
                    **{"id": f"{prefix}-{len(result) + 1}", "type": kind, "from_name": control, "to_name": image},
                    **{"original_width": width, "original_height": height, "image_rotation": 0, "score": score},
                    "value": value | {kind: [names[label]]},
                }
            )
    return {"model_version": made_by, "score": sum(scores) / max(len(scores), 1), "result": result}


def _values(mask: np.ndarray, kind: str) -> list[dict[str, Any]]:
    """A mask (H, W) bool as regions of a kind."""
    if kind == BRUSH:
        return [{"format": "rle", "rle": brush_rle.encode(mask)}]
    rings = [cv2.approxPolyDP(ring.astype(np.int32), TOLERANCE, closed=True)[:, 0] for ring in outlines(mask)]
    sides = mask.shape[::-1]
    return [{"points": (100 * ring / sides).tolist(), "closed": True} for ring in rings if len(ring) > 2]


def interface_xml(names: Sequence[str], background: int | None, smart: bool = False, messages: bool = False) -> str:
    """A labelling interface of brush strokes for all classes but the background.

    Names of the tags are "image" and "tag". ``smart``: with points and boxes that ask a backend for the object at them.
    ``messages``: with a text under the image in which it says why it does not answer.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    controls = [ElementTree.SubElement(view, "BrushLabels", name="tag", toName="image")]
    if smart:
        controls[0].set("smart", "false")  # or the magic wand would be a brush
        controls += [
            ElementTree.SubElement(view, kind, name=name, toName="image", smart="true", smartOnly="true")
            for kind, name in zip(PROMPTS, ("point", "box"), strict=True)
        ]
    for index, (name, colour) in enumerate(zip(names, palette(len(names)), strict=True)):
        if index != background:
            for control in controls:
                ElementTree.SubElement(control, "Label", value=name, background="#{:02x}{:02x}{:02x}".format(*colour))
    if messages:
        hint = "why samseg does not answer stands here"
        ElementTree.SubElement(view, "TextArea", name=MESSAGES, toName="image", editable="false", placeholder=hint)
    ElementTree.indent(view)
    return ElementTree.tostring(view, "unicode") + "\n"
