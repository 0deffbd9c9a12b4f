"""FiftyOne: the samples of a dataset, with a field of detections with masks, polylines or a segmentation."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samseg.common.errors import ConfigError, InputError, first_line, suggestion
from samseg.data.formats.coco_rle import as_json, as_rle, mask_rle
from samseg.data.formats.images import image_shape, read_label
from samseg.data.raster import Window
from samseg.data.sources.coco import CocoSource
from samseg.data.sources.files import FileSource, counted
from samseg.data.sources.places import SPELLINGS

BEYOND = 2  # times the image's sides: a box farther away is none
NEEDED = 'data.source: fiftyone needs FiftyOne ({}): pip install "samseg-smp[fiftyone]"'


@dataclass
class FiftyOneConfig:
    """Which samples of FiftyOne's database are read, where FIFTYONE_DATABASE_URI or FiftyOne's own server has it."""

    dataset: str | None = None  # its name in FiftyOne
    field: str = (
        "ground_truth"  # Detections with masks, Polylines or a Segmentation, whose mask targets name the classes
    )
    # The samples' tag; {split} stands for train, val (or validation) or test. null: all samples, which data.split cuts.
    tag: str | None = "{split}"


class FiftyOneSource(CocoSource):
    """The images of a dataset's samples; labels and objects as COCO's: the smaller lies on top.

    Of a segmentation 0 is where there is no object, as in FiftyOne, and other values are called as its mask targets
    say, or by their number; it does not tell objects apart. Labels are read once, when the source is opened.
    """

    section, split_keys = "fiftyone", ("tag",)

    def __init__(self, root: str | Path, split: str, settings: FiftyOneConfig):
        FileSource.__init__(self, root, split, settings)
        self._where = f"{settings.dataset}.{settings.field}"
        dataset = _dataset(settings)
        samples, names = _samples(dataset, split, settings), _mask_targets(dataset, settings)
        paths = [(str(sample.id), Path(sample.filepath), sample[settings.field]) for sample in samples]
        stems = Counter(path.stem for _, path, _ in paths)
        self.files, self._sizes, self._objects = {}, {}, defaultdict(list)
        numbers = {called: number for number, called in enumerate(_classes(dataset, settings, names), start=1)}
        self._told_apart = True
        for key, path, label in paths:
            name = path.stem if stems[path.stem] == 1 else f"{path.stem}-{key}"
            try:
                shape = image_shape(path)
                objects = list(objects_of(label, shape, names, f"{self._where} of {path.name}"))
            except InputError as error:
                self.wrong[name] = error
                continue
            self._told_apart &= type(label).__name__ != "Segmentation"
            self.files[name], self._sizes[name] = path, shape
            for called, encoded in objects:
                number = numbers.setdefault(called, len(numbers) + 1)
                one = {"id": len(self._objects[name]) + 1, "segmentation": encoded, "number": number}
                self._objects[name].append(one)
        self.names, self._objects, self.categories = sorted(self.files), dict(self._objects), numbers
        self._count()
        empty = [name for name in self.names if name not in self._objects]
        if empty:
            self.notes.append(f"{split}: {counted(empty, 'image')} without labels in {self._where}: background")

    @classmethod
    def complete(cls, settings: FiftyOneConfig) -> None:
        if not settings.dataset:
            raise ConfigError("data.source: fiftyone needs data.fiftyone.dataset, a dataset's name")

    @classmethod
    def recognise(cls, root: Path) -> None:
        return None

    @classmethod
    def images(cls, root: str | Path, split: str, settings: FiftyOneConfig) -> list[Path]:
        return sorted(Path(sample.filepath) for sample in _samples(_dataset(settings), split, settings))

    def instances(self, name: str, window: Window | None = None) -> np.ndarray | None:
        return super().instances(name, window) if self._told_apart else None

    def describe_label(self, name: str) -> str:
        return f"{self._where} of {self.files[name].name}"


def objects_of(
    label: Any, shape: tuple[int, int], names: Mapping[int, str], where: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(class, compressed RLE) of each object of one of FiftyOne's labels on an image of ``shape`` (H, W).

    Args:
        label: Detections, a Detection, Polylines, a Polyline, a Segmentation, or None for none.
        names: what a segmentation's values are called.
        where: the label's name in errors: InputError for one without an area, or of another kind.
    """
    kind = type(label).__name__
    if label is None:
        return
    if kind == "Segmentation":
        mask = label.mask if label.mask is not None else label.mask_path and read_label(label.mask_path)
        if mask is None:
            return
        if mask.ndim != 2:
            raise InputError(f"{where} is a mask in colours; FiftyOne's masks of numbers are read: convert it")
        if mask.shape != shape:
            sizes = " pixels, its image of ".join(f"{width} x {height}" for height, width in (mask.shape, shape))
            raise InputError(f"{where} is of {sizes}")
        for value in np.unique(mask[mask != 0]).tolist():
            yield names.get(int(value), str(int(value))), mask_rle(mask == value)
        return
    if kind not in ("Detections", "Detection", "Polylines", "Polyline"):
        raise InputError(f"{where} is of {kind}; samseg reads Detections with masks, Polylines and Segmentation")
    for one in label[kind.lower()] if kind.endswith("s") else [label]:
        if not one.label:
            raise InputError(f"{where} has a {kind.removesuffix('s')} without a label; give it one")
        if hasattr(one, "points"):  # a polyline, whose shapes are drawn as COCO draws them
            rings = [(np.array(points) * shape[::-1]).ravel().tolist() for points in one.points]
            yield one.label, as_json(as_rle(rings, shape, where))
        else:
            yield one.label, mask_rle(_instance(one, shape, where))


def _instance(one: Any, shape: tuple[int, int], where: str) -> np.ndarray:
    """A detection's mask, which lies in its box, on the image."""
    part = one.mask if one.mask is not None else one.mask_path and read_label(one.mask_path)
    if part is None:
        raise InputError(f"{where} has a box without a mask ({one.label}); segmentation needs masks")
    if not np.all(np.abs(one.bounding_box) <= BEYOND):  # nor NaN
        raise InputError(f"{where} has the box {list(one.bounding_box)}; boxes are shares of the image's sides")
    height, width = shape
    left, top, right, bottom = np.round(
        [one.bounding_box[0] * width, one.bounding_box[1] * height,
         sum(one.bounding_box[::2]) * width, sum(one.bounding_box[1::2]) * height]
    ).astype(int)  # fmt: skip
    canvas = np.zeros(shape, bool)
    if right > left and bottom > top:
        sized = cv2.resize((part > 0).astype(np.uint8), (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
        inside = sized[max(0, -top) : height - top, max(0, -left) : width - left]
        canvas[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside > 0
    return canvas


def _dataset(settings: FiftyOneConfig) -> Any:
    """The dataset, from FiftyOne's database; InputError if it has none of the name."""
    try:
        import fiftyone
    except ImportError as error:
        raise InputError(NEEDED.format(first_line(error))) from None
    try:
        there = fiftyone.list_datasets()
    except Exception as error:  # its database's library has errors of many kinds
        raise InputError(
            f"FiftyOne's database does not answer ({first_line(error)}); name one that runs in FIFTYONE_DATABASE_URI"
        ) from None
    if settings.dataset not in there:
        near = suggestion(settings.dataset, there)
        raise InputError(f"data.fiftyone.dataset: FiftyOne has no {settings.dataset!r}{near}")
    return fiftyone.load_dataset(settings.dataset)


def _samples(dataset: Any, split: str, settings: FiftyOneConfig) -> Any:
    """The samples of a split; InputError for a field or a tag that does not exist."""
    fields = dataset.get_field_schema()
    if settings.field not in fields:
        raise InputError(f"{settings.dataset} has no field {settings.field!r}{suggestion(settings.field, fields)}")
    if settings.tag is None:
        return dataset
    tags = [settings.tag.replace("{split}", spelling) for spelling in SPELLINGS.get(split, (split,))]
    samples = dataset.match_tags(tags)
    if not samples:
        there = ", ".join(dataset.distinct("tags")) or "none"
        raise InputError(f"{settings.dataset} has no samples of tag {tags[0]!r} (tags: {there}); see data.fiftyone.tag")
    return samples


def _classes(dataset: Any, settings: FiftyOneConfig, names: Mapping[int, str]) -> list[str]:
    """What objects of the field are called in all of the dataset, so that the splits agree."""
    kind = getattr(dataset.get_field_schema()[settings.field], "document_type", type(None)).__name__
    path = {"Detections": ".detections.label", "Polylines": ".polylines.label"}.get(kind, ".label")
    return list(names.values()) if kind == "Segmentation" else dataset.distinct(settings.field + path)


def _mask_targets(dataset: Any, settings: FiftyOneConfig) -> dict[int, str]:
    """What a segmentation's values are called, the field's own names or else the dataset's."""
    targets = dataset.mask_targets.get(settings.field) or dataset.default_mask_targets or {}
    return {value: str(name) for value, name in targets.items() if isinstance(value, int)}
