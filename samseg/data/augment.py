"""Augmentation from the configuration. The only import of albumentations."""

import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from samseg.common.errors import ConfigError, first_line, nearest
from samseg.data.preprocess import Preprocessing


@contextmanager
def _without_updates() -> Iterator[None]:
    """Keep albumentations from looking for a newer version on the net while it is imported."""
    if "NO_ALBUMENTATIONS_UPDATE" in os.environ:
        yield
        return
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    try:
        yield
    finally:
        del os.environ["NO_ALBUMENTATIONS_UPDATE"]


with _without_updates():
    import albumentations as A
    import cv2
    from albumentations.augmentations.crops.transforms import BaseCrop
    from albumentations.core.transforms_interface import BaseTransformInitSchema

OURS = "samseg normalises (data.mean, data.std) and makes tensors itself; leave it out"
BOXES = "it needs bounding boxes"
ZEROS = "it writes 0, a class, into masks; take"
REFUSED = {
    **dict.fromkeys(("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"), OURS),
    **dict.fromkeys(("BBoxSafeRandomCrop", "RandomSizedBBoxSafeCrop", "AtLeastOneBBoxRandomCrop"), BOXES),
    **dict.fromkeys(("FrequencyMasking", "TimeMasking"), f"{ZEROS} XYMasking"),
    "GridElasticDeform": f"{ZEROS} ElasticTransform or ThinPlateSpline",
    "Morphological": "it takes class indices for brightness and would relabel pixels",
    "Lambda": "it takes Python functions, which a configuration cannot give",
}
CHOICES = {kind.__name__: kind for kind in (A.OneOf, A.SomeOf, A.RandomOrder, A.Sequential)}
BASES = (A.DualTransform, A.ImageOnlyTransform)
TRANSFORMS = {
    name: kind
    for name, kind in vars(A).items()
    if inspect.isclass(kind) and issubclass(kind, BASES) and not issubclass(kind, A.Transform3D) and kind not in BASES
}


class RandomWindow(BaseCrop):
    """A random square of ``size`` pixels a side, or as much of it as the image has."""

    class InitSchema(BaseTransformInitSchema):
        size: int

    def __init__(self, size: int, p: float = 1.0):
        super().__init__(p=p)
        self.size = size

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        corner = []
        for length in params["shape"][:2]:
            window = min(self.size, length)
            start = self.py_random.randint(0, length - window)
            corner.append((start, start + window))
        (top, bottom), (left, right) = corner
        return {"crop_coords": (left, top, right, bottom)}


def augmentation(
    augment: list[Any], preprocessing: Preprocessing, fill: float, maps: Iterable[str] = ()
) -> A.Compose | None:
    """What ``data.augment`` makes of an image (H, W, C), as `Preprocessing.scaled` gives it, and its maps.

    Called with ``image``, a map ``mask`` (H, W), the further ``maps`` and, where pixels lack data, ``valid`` (H, W)
    uint8; they come back at a size of their own, or with ``resize: false`` as a random crop of ``image_size``. Maps are
    only ever resampled by nearest neighbour, and are ``fill`` where something comes in from beyond the image's border.
    None: there is nothing to do. Raises ConfigError for ``augment``.
    """
    # In the image's own values; what comes in from beyond the border is all but 0 once normalised.
    colour = (
        preprocessing.mean if preprocessing.scale is not None else [round(255 * mean) for mean in preprocessing.mean]
    )
    transforms = [_build(spec, colour, fill) for spec in augment]
    if transforms and not preprocessing.resize:
        transforms.append(RandomWindow(preprocessing.size))
    return A.Compose(transforms, additional_targets=dict.fromkeys([*maps, "valid"], "mask")) if transforms else None


def _build(spec: Any, colour: list[float], fill: float) -> A.BasicTransform | A.BaseCompose:
    """One entry of ``data.augment``: a transform's name, or {name: {argument: value}}."""
    name, arguments = next(iter(spec.items())) if isinstance(spec, dict) and len(spec) == 1 else (spec, {})
    arguments = {} if arguments is None else arguments
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ConfigError(f"data.augment: write a transform as Name or as {{Name: {{argument: value}}}}, got {spec!r}")
    if name in REFUSED:
        raise ConfigError(f"data.augment: {name} cannot be used here: {REFUSED[name]}")
    kind = CHOICES.get(name) or TRANSFORMS.get(name)
    if kind is None:
        close = nearest(name, [*CHOICES, *TRANSFORMS])
        hint = f"did you mean {close}?" if close else "see the list at https://explore.albumentations.ai"
        raise ConfigError(f"data.augment: albumentations has no transform {name}; {hint}")
    known = {key: value for key, value in inspect.signature(kind.__init__).parameters.items() if key != "self"}
    for key in arguments:
        if key not in known:
            close = nearest(str(key), list(known))
            hint = f"did you mean {close}?" if close else f"it has {', '.join(known) or 'none'}"
            raise ConfigError(f"data.augment: {name} has no argument {key}; {hint}")
    if name in CHOICES:
        specs = arguments.get("transforms")
        if not isinstance(specs, list) or not specs:
            raise ConfigError(f"data.augment: {name} needs transforms, a list to choose from; got {specs!r}")
        arguments = arguments | {"transforms": [_build(item, colour, fill) for item in specs]}
    else:
        if arguments.get("mask_interpolation", cv2.INTER_NEAREST) != cv2.INTER_NEAREST:
            raise ConfigError(f"data.augment: {name}.mask_interpolation must be 0 (nearest): classes do not blend")
        arguments = _beyond_the_border(known, colour, fill) | arguments
    transform = _construct(name, kind, arguments)
    foreign = set(getattr(transform, "targets_as_params", ())) - {"image", "mask"}
    if foreign:
        raise ConfigError(f"data.augment: {name} cannot be used here: it needs {', '.join(sorted(foreign))} as well")
    return transform


def _beyond_the_border(known: dict[str, inspect.Parameter], colour: list[float], fill: float) -> dict[str, Any]:
    """Arguments by which a geometric transform fills what lies beyond the image: mean colour, and no label.

    Albumentations' default for masks, 0, is a class here; its None leaves masks as they are and stays.
    """
    chosen: dict[str, Any] = {}
    if "fill_mask" in known and known["fill_mask"].default is not None:
        chosen["fill_mask"] = fill
    if "fill" in known and "border_mode" in known:
        chosen["fill"] = colour
    return chosen


def _construct(name: str, kind: type, arguments: dict[str, Any]) -> A.BasicTransform | A.BaseCompose:
    try:
        return kind(**arguments)
    except Exception as error:
        details = getattr(error.__cause__, "errors", None)  # pydantic's, which albumentations wraps
        if details is None:
            reason = first_line(error)
        else:
            first = details()[0]
            where = ".".join(str(part) for part in first["loc"][:1])
            reason = f"{where}: {first['msg']}, got {arguments.get(where, first['input'])!r}" if where else first["msg"]
        raise ConfigError(f"data.augment: {name}: {reason}") from error
