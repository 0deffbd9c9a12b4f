"""COCO: a folder of images and a JSON file of objects for each split; polygons and RLE, decoded by pycocotools."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from pycocotools import mask as rle

from samseg.common.errors import InputError
from samseg.data.formats.coco_rle import as_rle, is_stray
from samseg.data.formats.images import image_shape
from samseg.data.raster import Window, crop
from samseg.data.sources.files import (
    NOTHING_DRAWN,
    FileSource,
    as_name,
    as_side,
    counted,
    images_and_annotations,
    images_in,
    read_json,
)
from samseg.data.sources.places import annotated_layout, annotation_files, files_meant, name_in
from samseg.data.sources.source import Layout

Id = int | str  # of images and categories; any JSON would do, but others cannot be told apart
NEEDED = {"images": ("id", "file_name"), "annotations": ("image_id", "category_id"), "categories": ("id", "name")}


@dataclass
class CocoConfig:
    """Where a split's files lie under data.root; {split} stands for train, val or test.

    The layout of COCO itself is images: "{split}2017", annotations: "annotations/instances_{split}2017.json".
    """

    images: str = "{split}/images"  # the folder that the file names of the annotations are in
    annotations: str = "{split}/annotations.json"


class CocoSource(FileSource):
    """The images that a split's annotations list, and the objects on them.

    Where objects overlap, the smaller lies on top, and of two of the same size the later. Crowds lie under all objects:
    as labels they are of their category, but no instance. Images without annotations are background; images in the
    folder that the annotations do not list are left out. `notes` says so.

    Raises InputError for files that are missing or do not fit each other.
    """

    section, split_keys = "coco", ("annotations",)
    named = True

    def __init__(self, root: str | Path, split: str, settings: CocoConfig):
        super().__init__(root, split, settings)
        folder, self._annotations = images_and_annotations(root, split, settings)
        listed = images_in(folder, self.section)
        content = self._content(listed)
        numbers = self._number(content["categories"])
        names = self._list(content["images"], folder)
        self._objects: dict[str, list[dict[str, Any]]] = {}
        for entry in content["annotations"]:
            self._check_entry(entry, names, numbers)
            number = numbers[entry["category_id"]]
            self._objects.setdefault(names[entry["image_id"]], []).append(entry | {"number": number})
        self._count()
        empty = [name for name in self.names if name not in self._objects]
        if empty:
            count = "counts" if len(empty) == 1 else "count"
            self.notes.append(f"{split}: {counted(empty, 'image')} without annotations {count} as background")
        shared = "{split}" in settings.annotations and "{split}" not in settings.images
        if not shared and len(listed) > len(self.names):
            self.notes.append(
                f"{split}: {len(listed) - len(self.names)} images in the folder are not in {self._annotations.name} "
                "and are left out"
            )

    def _count(self) -> None:
        """Set how many objects each of the `categories` has."""
        counts = Counter(one["number"] for objects in self._objects.values() for one in objects)
        self.categories = {name: counts[number] for number, name in enumerate(self.categories, start=1)}

    @classmethod
    def recognise(cls, root: Path) -> Layout | None:
        """By its JSON files, up to two folders deep; of several for training those of instances, as COCO calls them."""
        found = annotation_files(root, _begins_as_coco)
        found.sort(key=lambda text: ("{split}" not in text, "instances" not in text, text))
        return annotated_layout(root, found, CocoConfig, "COCO's JSON")

    @classmethod
    def images(cls, root: str | Path, split: str, settings: CocoConfig) -> list[Path]:
        if "{split}" not in settings.images:  # those of all splits lie there
            return sorted(cls(root, split, settings).files.values())
        return images_in(images_and_annotations(root, split, settings)[0], cls.section)

    def _content(self, images: list[Path]) -> dict[str, Any]:
        """What the annotations say of the ``images`` of the folder, as COCO's JSON has it; InputError."""
        file = self._annotations
        content = read_json(file, f"no such file: {file}; data.coco.annotations says where a split's annotations lie")
        for key, fields in NEEDED.items():
            entries = content.get(key) if isinstance(content, dict) else None
            if not isinstance(entries, list):
                raise InputError(f"{file} holds no list of {key}, as COCO's annotations do")
            for entry in entries:
                missing = [field for field in fields if not isinstance(entry, dict) or field not in entry]
                if missing:
                    raise InputError(f"{file}: an entry of {key} has no {missing[0]}: {str(entry)[:80]}")
                if key != "annotations" and not isinstance(entry["id"], Id):
                    raise InputError(f"{file}: an entry of {key} has the id {json.dumps(entry['id'])}; write a number")
                if key == "images" and not isinstance(entry["file_name"], str):
                    raise InputError(
                        f"{file}: image {entry['id']} has the file_name {json.dumps(entry['file_name'])}, no text"
                    )
        return content

    def label(self, name: str, window: Window | None = None, colours: bool = False) -> np.ndarray:
        """The numbers of `categories` (H, W) uint16."""
        return crop(self._drawn(name, [(one["number"], one) for one in self._objects.get(name, [])], np.uint16), window)

    def instances(self, name: str, window: Window | None = None) -> np.ndarray:
        single = [one for one in self._objects.get(name, []) if not one.get("iscrowd")]
        return crop(self._drawn(name, list(enumerate(single, start=1)), np.int32), window)

    def describe_label(self, name: str) -> str:
        return f"{self._annotations} ({self.files[name].name})"

    def remarks(self, name: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for one in self._objects.get(name, []):
            which = f"annotation {one.get('id')} of {self.files[name].name}"
            if not rle.area(self._encoded(name, one, self._shape(name))):
                found.append((NOTHING_DRAWN, which))
            if isinstance(one["segmentation"], list) and any(map(is_stray, one["segmentation"])):
                found.append(("with stray parts of fewer than three points, which cover nothing", which))
        return found

    def _shape(self, name: str) -> tuple[int, int]:
        return self._sizes[name] or image_shape(self.files[name])

    def _drawn(self, name: str, objects: list[tuple[int, dict]], dtype: type) -> np.ndarray:
        """Objects, each in its value, crowds first and then from large to small."""
        canvas = np.zeros(self._shape(name), dtype)
        masks = [(self._encoded(name, one, canvas.shape), value, one) for value, one in objects]
        for mask, value, _ in sorted(masks, key=lambda item: (not item[2].get("iscrowd"), -int(rle.area(item[0])))):
            canvas[rle.decode(mask).astype(bool)] = value
        return canvas

    def _encoded(self, name: str, one: dict[str, Any], shape: tuple[int, int]) -> dict[str, Any]:
        """An annotation as compressed RLE."""
        return as_rle(one.get("segmentation"), shape, f"{self.describe_label(name)}: annotation {one.get('id')}")

    def _number(self, categories: list[dict[str, Any]]) -> dict[Id, int]:
        """Number the `categories` as they are listed, from 1; returns the numbers by category id."""
        names = {one["id"]: as_name(one["name"], f"{self._annotations}: category {one['id']}") for one in categories}
        if len(names) < len(categories):
            raise InputError(f"{self._annotations} lists two categories of one id; give each an id of its own")
        self.categories = dict.fromkeys(names.values(), 0)
        number = {name: index for index, name in enumerate(self.categories, start=1)}
        return {key: number[name] for key, name in names.items()}

    def _list(self, images: list[dict[str, Any]], folder: Path) -> dict[Id, str]:
        """Set `names`, `files` and sizes; returns the names by image id. A name is the file's without its suffix."""
        listed = [image["file_name"] for image in images]
        files = files_meant(folder, listed)
        missing = [PurePath(name).name for name, file in zip(listed, files, strict=True) if file is None]
        if missing:
            raise InputError(f"{self._annotations} lists {counted(missing, 'image')} not in {folder}")
        names = {image["id"]: name_in(folder, file) for image, file in zip(images, files, strict=True)}
        self.files = {names[image["id"]]: file for image, file in zip(images, files, strict=True)}
        self._sizes: dict[str, tuple[int, int] | None] = {}
        for image in images:
            where = f"{self._annotations}: image {image['id']} ({image['file_name']})"
            sides = [as_side(image.get(key), key, where) for key in ("height", "width")]
            self._sizes[names[image["id"]]] = None if None in sides else tuple(sides)
        self.names = sorted(self.files)
        twice = [name for name, count in Counter(names.values()).items() if count > 1]
        if twice or len(names) < len(images):
            raise InputError(f"{self._annotations} lists two images of one name or id: {(twice or ['an id'])[0]}")
        if not names and not self.wrong:
            raise InputError(f"{self._annotations} lists no images")
        return names

    def _check_entry(self, entry: dict[str, Any], names: dict[Id, str], numbers: dict[Id, int]) -> None:
        where = f"{self._annotations}: annotation {entry.get('id')}"
        for key, known, of in (("image_id", names, "image"), ("category_id", numbers, "category")):
            found = entry[key]
            if not isinstance(found, Id) or found not in known:
                listed = next((one for one in known if str(one) == str(found)), None)
                alike = "" if listed is None else f"; it lists {json.dumps(listed)}: write both as numbers"
                raise InputError(f"{where} is of {of} {json.dumps(found)}, which it does not list{alike}")
        if entry.get("iscrowd") not in (None, 0, 1):
            raise InputError(f"{where} has iscrowd {json.dumps(entry['iscrowd'])}; write 1 for a crowd, else 0")


def _begins_as_coco(start: bytes) -> bool:
    return start.startswith(b"{") and (b'"images"' in start or b'"annotations"' in start)
