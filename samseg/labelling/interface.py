"""Label Studio's labelling interface: what a project's has to offer."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from samseg.common.errors import InputError
from samseg.inference.objects.label_studio import BRUSH, MESSAGES, POLYGON, PROMPTS

ANSWERS = {"BrushLabels": BRUSH, "PolygonLabels": POLYGON}  # tags whose regions are masks


@dataclass(frozen=True)
class Interface:
    """The part of a project's labelling interface that is about one image.

    Attributes:
        image: the name of the tag that shows the image.
        data: the key of a task's data under which the image is.
        kind: `BRUSH` or `POLYGON`, the kind of regions in which masks are given.
        control: the name of the tag that such regions are from.
        labels: of that tag.
        messages: the name of a <TextArea> for what samseg has to say, `MESSAGES`; None: there is none.
    """

    image: str
    data: str
    kind: str
    control: str
    labels: tuple[str, ...]
    messages: str | None = None

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
        told = any(tag.tag == "TextArea" and tag.get("name") == MESSAGES for tag in tags)
        kind, name = ANSWERS[control.tag], str(control.get("name"))
        return cls(str(image.get("name")), data, kind, name, tuple(labels), MESSAGES if told else None)

    def check_classes(self, names: Sequence[str]) -> list[str]:
        """Those of a run's classes that are no label; InputError if none is one."""
        missing = [name for name in names if name not in self.labels]
        if names and len(missing) == len(names):
            raise InputError(
                f"the run finds {', '.join(names)}, none of which is a label of {self.control!r} in the project's "
                f"labelling interface ({', '.join(self.labels) or 'it has none'}); call the labels as the run's classes"
            )
        return missing


def _labels(tag: ElementTree.Element) -> list[str]:
    return [str(label.get("alias") or label.get("value")) for label in tag.iter("Label")]
