"""What `data.folders` says of images and masks, and the layouts that are recognised: how tools call them."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samseg.common.errors import InputError
from samseg.data.formats.images import LABELS_ALONE, SUFFIXES, read_label
from samseg.data.formats.voc_colours import colour
from samseg.data.sources.places import SPLITS, Pattern, files_in, name_in, place
from samseg.data.sources.source import Layout

FOLDERS = (
    ("images", "masks"),
    ("images", "instances"),
    ("images", "labels"),
    ("images", "annotations"),
    ("image", "mask"),
    ("image", "label"),
    ("imgs", "masks"),
    ("img_dir", "ann_dir"),
    ("leftImg8bit", "gtFine"),
)
# What stands behind the name of an image, and of its mask. Of several masks of an image the first kind is taken.
IMAGES = ("", "_leftImg8bit", "_image", "_img", "_sat")
MASKS = ("", "_mask", "_gtFine_labelIds", "_gtFine_labelTrainIds", "_label", "_labels", "_segmentation", "_seg", "_gt")
OBJECTS = ("_masks", "_cp_masks")  # beside their images they are cellpose's numbers of objects
VOID, VOID_COLOUR = 255, colour(255)  # the border of Pascal VOC's objects


@dataclass
class FoldersConfig:
    """Where a split's files lie under data.root, and what they are called.

    {split} stands for train, val or test; {name} for what an image and its mask share, and **/{name} includes folders
    inside the folder. Without an ending it is any of PNG, TIFF and JPEG, of masks also of BMP, GIF and NPY. Cityscapes
    is images: "leftImg8bit/{split}/**/{name}_leftImg8bit.png", masks: "gtFine/{split}/**/{name}_gtFine_labelIds.png".
    """

    images: str = "{split}/images/{name}"  # {name}: what an image and its mask share; **/{name}: also in folders inside
    masks: str | None = "{split}/masks/{name}"  # null: there are instances alone
    instances: str | None = "{split}/instances/{name}"  # files that number the objects; used where the folder is there
    names: str | None = None  # a text file of those names that are used, one a line; null: all are

    def patterns(self) -> dict[str, Pattern]:
        """The patterns of image, mask and instance that are set; ConfigError for a text that is no pattern."""
        texts = {kind: getattr(self, f"{kind}s") for kind in ("image", "mask", "instance")}
        return {kind: Pattern(f"data.folders.{kind}s", text) for kind, text in texts.items() if text is not None}


def recognise_folders(root: Path) -> Layout | None:
    """How images and masks lie under ``root`` and are called; None: there are none."""
    if (root / "SegmentationClass").is_dir():
        return _pascal_voc(root)
    for images, masks in _places():
        if (settings := _paired(root, images, masks)) is not None:
            return _layout(root, settings)
    if any((root / split / kind).is_dir() for split in SPLITS for kind in ("masks", "instances")):
        return _layout(root, FoldersConfig())  # whose errors say what is missing
    return None


def _places() -> Iterator[tuple[str, str]]:
    """Where images and masks may lie: with splits before without, and folders inside folders last."""
    for inside in ("", "**/"):
        for before, after in (("{split}/", ""), ("", "{split}/"), ("", "")):
            for images, masks in FOLDERS:
                yield f"{before}{images}/{after}{inside}", f"{before}{masks}/{after}{inside}"
        yield f"{{split}}/{inside}", f"{{split}}/{inside}"
        if not inside:
            yield "", ""


def _paired(root: Path, images: str, masks: str) -> FoldersConfig | None:
    """What files are called in two folders, or in one, so that most have a partner; None where none has."""
    image_stems, mask_stems = _stems(root, images, SUFFIXES), _stems(root, masks, SUFFIXES + LABELS_ALONE)
    counts = {
        (image, mask): len(_without(image_stems, image) & _without(mask_stems, mask))
        for image in IMAGES
        for mask in MASKS + OBJECTS
        if images != masks or image != mask
    }
    image, mask = max(counts, key=counts.get)
    if counts[image, mask]:
        pattern = f"{masks}{{name}}{mask}"
        if (mask in OBJECTS and images == masks) or "instances" in masks:
            return FoldersConfig(f"{images}{{name}}{image}", None, pattern)
        objects = pattern.replace("masks/", "instances/") if "masks/" in masks else None
        return FoldersConfig(f"{images}{{name}}{image}", pattern, objects)
    if images == masks and _stems(root, images, (".jpg",)) & _stems(root, masks, (".png",)):
        return FoldersConfig(images + "{name}.jpg", masks + "{name}.png", None)
    return None


def _stems(root: Path, text: str, endings: tuple[str, ...]) -> set[str]:
    """The files in a folder for training, without their endings."""
    folder = place(root, text.removesuffix("**/"), "train")
    if not folder.is_dir():
        return set()
    files = [file for file in files_in(folder, text.endswith("**/")) if file.name.lower().endswith(endings)]
    return {name_in(folder, file) for file in files}


def _without(stems: set[str], ending: str) -> set[str]:
    return {stem[: len(stem) - len(ending)] for stem in stems if stem.endswith(ending) and stem != ending}


def _layout(root: Path, settings: FoldersConfig) -> Layout:
    masks = settings.masks or settings.instances
    splits = "{split}" in settings.images and place(root, _folder(settings.images), "val").is_dir()
    if settings.masks is None:
        classes = {"background": 0, "object": 1}
        return Layout(settings, f"images {settings.images}, numbered objects {masks}", splits, classes)
    classes = _roboflow_classes(place(root, _folder(masks), "train") / "_classes.csv")
    return Layout(settings, f"images {settings.images}, masks {masks}", splits, classes)


def _folder(text: str) -> str:
    return text.rpartition("/")[0].removesuffix("**")


def _pascal_voc(root: Path) -> Layout:
    """Pascal VOC's, and CVAT's "Segmentation mask", whose labelmap.txt says which colour is which class."""
    images = "images" if (root / "images").is_dir() else "JPEGImages"
    settings = FoldersConfig(f"{images}/**/{{name}}", "SegmentationClass/**/{name}", "SegmentationObject/**/{name}")
    lists, splits = "ImageSets/Segmentation", False
    if (root / lists).is_dir():
        settings.names, splits = f"{lists}/{{split}}.txt", place(root, f"{lists}/{{split}}.txt", "val").is_file()
        if not place(root, settings.names, "train").is_file():
            settings.names = f"{lists}/{next((file.name for file in files_in(root / lists)), 'default.txt')}"
    classes = _labelmap(root / "labelmap.txt")
    where = "" if classes is None else " in the colours of labelmap.txt"
    what = f"Pascal VOC's images {images}/{{name}}, masks SegmentationClass/{{name}}{where}"
    void = VOID if classes is None and not _in_colours(root) else VOID_COLOUR
    return Layout(settings, what, splits, classes, [] if void in (classes or {}).values() else [void])


def _in_colours(root: Path) -> bool:
    """Whether masks hold the palette's colours and not its indices."""
    try:
        return read_label(next(iter(files_in(root / "SegmentationClass", deep=True)))).ndim == 3
    except (InputError, StopIteration):
        return False


def _labelmap(file: Path) -> dict[str, Any] | None:
    """CVAT's classes by colour, lines of ``name:r,g,b:parts:actions``; None where no file says them.

    A class without a colour, as Datumaro writes it, has Pascal VOC's for its number.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip() and line[0] != "#"]
        named = [line.rsplit(":", 3)[:2] for line in lines]
        colours = [[int(part) for part in text.split(",")] if text else colour(i) for i, (_, text) in enumerate(named)]
        return {name: found for (name, _), found in zip(named, colours, strict=True)}
    except (OSError, ValueError):
        return None


def _roboflow_classes(file: Path) -> dict[str, Any] | None:
    """Roboflow's classes by value, a table of ``Pixel Value, Class``; None where no file says them."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            return {name.strip(): int(value) for value, name in list(csv.reader(lines))[1:]}
    except (OSError, ValueError):
        return None
