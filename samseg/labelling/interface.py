"""Label Studio's labelling interface: what a project's has to offer, and what was drawn there to ask for an object."""

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from pycocotools import mask as rle

from samseg.common.errors import InputError
from samseg.data.sources.label_studio import region_outline
from samseg.inference.objects.find import middles
from samseg.inference.objects.label_studio import BRUSH, MESSAGES, POLYGON, PROMPTS

ANSWERS = {"BrushLabels": BRUSH, "PolygonLabels": POLYGON}  # tags whose regions are masks
MOST_POINTS = 8  # of a brush stroke


@dataclass(frozen=True)
class Interface:
    """The part of a project's labelling interface that is about one image."""

    image: str  # the name of the tag that shows the image
    data: str  # the key of a task's data under which the image is
    kind: str  # `BRUSH` or `POLYGON`, the kind of regions in which masks are given
    control: str  # the name of the tag that such regions are from
    labels: tuple[str, ...]  # of that tag
    messages: str | None = None  # the name of a <TextArea> for what samseg has to say, `MESSAGES`; None: there is none

    @classmethod
    def read(cls, xml: object) -> "Interface":
        """A project's interface; InputError, with what to add to it, where it has no place for masks."""
        try:
            tags = list(ElementTree.fromstring(str(xml)).iter())
        except ElementTree.ParseError as error:
            raise InputError(f"the project's labelling interface is no XML ({error})") from None
        images = {tag.get("name"): tag for tag in tags if tag.tag == "Image"}
        if not images:
            raise InputError("the project's labelling interface shows no <Image>; samseg labels images alone")
        controls = [tag for kind in ANSWERS for tag in tags if tag.tag == kind and tag.get("toName") in images]
        if not controls:
            raise InputError(
                "the project's labelling interface has neither <BrushLabels> nor <PolygonLabels> for its image, in "
                "which masks are given; add one, or take the interface that this backend's address shows in a browser"
            )
        control = controls[0]
        labels = _labels(control)
        for tag in tags:
            strange = [label for label in _labels(tag) if label not in labels]
            if tag.tag in PROMPTS and tag.get("smart") == "true" and strange:
                raise InputError(
                    f"<{tag.tag} name={tag.get('name')!r}> has the label {strange[0]!r}, which is none of "
                    f"<{control.tag} name={control.get('name')!r}> ({', '.join(labels)}), in which masks are "
                    "given; add it there"
                )
        image = images[control.get("toName")]
        data = str(image.get("value", "")).removeprefix("$")
        answers = any(tag.tag == "TextArea" and tag.get("name") == MESSAGES for tag in tags)
        kind, name = ANSWERS[control.tag], str(control.get("name"))
        return cls(str(image.get("name")), data, kind, name, tuple(labels), MESSAGES if answers else None)


@dataclass(frozen=True)
class Prompts:
    """Points and a box in an image's pixels, and the label that was chosen."""

    points: np.ndarray  # (N, 2) as x, y
    positive: np.ndarray  # (N,), 1 on the object, 0 beside it
    box: np.ndarray | None  # (left, top, right, bottom)
    label: str | None  # of the object

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


def _labels(tag: ElementTree.Element) -> list[str]:
    return [str(label.get("alias") or label.get("value")) for label in tag.iter("Label")]
