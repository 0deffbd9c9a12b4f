"""labelme: a JSON file of shapes beside each image, drawn as labelme's own export draws them."""

import base64
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from samseg.common.errors import InputError, did_you_mean, require
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
from samseg.data.sources.places import SPLITS, annotation_files, by_name, folder_of_images, normal, place
from samseg.data.sources.source import Layout

POINTS = {  # that a shape must have at least; rotation is what some tools call labelme's oriented_rectangle
    **{"polygon": 3, "rectangle": 2, "oriented_rectangle": 4, "rotation": 4, "circle": 2, "mask": 2},
    **{"line": 2, "linestrip": 2, "point": 1},
}
FARTHEST = 2**24  # pixels from the image's corner
NEEDED = {"line": "line_width", "linestrip": "line_width", "point": "point_radius"}  # keys that say how large it is


@dataclass
class LabelmeConfig:
    """Where a split's files lie under data.root; {split} stands for train, val or test."""

    images: str = "{split}"  # the folder of the images
    annotations: str = "{split}"  # the folder of the JSON files, each called as its image; images without are left out
    line_width: int | None = None  # pixels, of lines and line strips; null: there are none
    point_radius: int | None = None  # pixels, of points; null: there are none


class Shape(NamedTuple):
    """A shape as labelme writes it."""

    label: str
    kind: str
    points: list[tuple[float, float]]
    mask: str | None  # a PNG in base64
    number: int  # of the object, from 1


class LabelmeSource(FileSource):
    """The images of a split that have a JSON file of the same stem, and the shapes in it.

    Where shapes overlap, the later in the file lies on top. Shapes of one label and one group_id are one object. What
    reaches beyond the image is cut off. Images without a JSON file are left out, images without shapes are background;
    `notes` says so.

    Raises InputError for folders that are missing or hold nothing.
    """

    section, split_keys = "labelme", ("images", "annotations")
    named = True

    def __init__(self, root: str | Path, split: str, settings: LabelmeConfig):
        super().__init__(root, split, settings)
        folder, annotations = images_and_annotations(root, split, self.settings)
        images = by_name(folder, ((normal(file.stem), file) for file in images_in(folder, self.section)))
        if not annotations.is_dir():
            raise InputError(f"no such folder: {annotations}; data.labelme.annotations says where the JSON files lie")
        self._labels = {normal(file.stem): file for file in sorted(annotations.glob("[!.]*.json"))}
        if not self._labels:
            raise InputError(f"{annotations} holds no JSON files: labelme writes one for each image, of its name")
        self._shapes: dict[str, list[Shape]] = {}
        self._sizes: dict[str, tuple[int, int] | None] = {}  # (H, W) of what they were drawn on, where files say so
        self.files = dict(images)
        counts: Counter[str] = Counter()
        for name, file in self._labels.items():
            try:
                content = _read(file)
                if name not in images:
                    raise _gone(file, content, folder)
                shapes = self._parsed(content, file)
                sides = tuple(as_side(content.get(key), key, str(file)) for key in ("imageHeight", "imageWidth"))
                self._shapes[name], self._sizes[name] = shapes, None if None in sides else sides
                counts.update(label for label, _ in {(shape.label, shape.number) for shape in shapes})
            except InputError as error:
                self.wrong[name] = error
        self.names = sorted(self._shapes)
        self.categories = {label: counts[label] for label in sorted(counts)}
        empty = [name for name, shapes in self._shapes.items() if not shapes]
        if empty:
            self.notes.append(f"{split}: {counted(empty, 'image')} without shapes: background")
        if unlabelled := [file.name for name, file in images.items() if name not in self._labels]:
            self.notes.append(f"{split}: {counted(unlabelled, 'image')} without a JSON file: left out")

    @classmethod
    def complete(cls, settings: LabelmeConfig) -> None:
        for key in ("line_width", "point_radius"):
            require(f"data.labelme.{key}", getattr(settings, key), "pixels, 1 or more", lambda value: value >= 1)

    @classmethod
    def recognise(cls, root: Path) -> Layout | None:
        """By JSON files, which lie beside their images: in folders of splits, or in one."""
        if any(any(place(root, "{split}", split).glob("[!.]*.json")) for split in SPLITS):
            splits = place(root, "{split}", "val").is_dir()
            return Layout(LabelmeConfig(), "labelme's JSON files beside their images", splits)
        found = annotation_files(root, lambda start: b'"shapes"' in start)
        if not found:
            return None
        beside = found[0].rpartition("/")[0]
        settings = LabelmeConfig(folder_of_images(root, found[0]), beside)
        return Layout(settings, f"labelme's JSON files in {beside or root}", "{split}" in beside)

    @classmethod
    def images(cls, root: str | Path, split: str, settings: LabelmeConfig) -> list[Path]:
        return images_in(images_and_annotations(root, split, settings)[0], cls.section)

    def label(self, name: str, window: Window | None = None, colours: bool = False) -> np.ndarray:
        """The numbers of `categories` (H, W) uint16."""
        numbers = {label: number for number, label in enumerate(self.categories, start=1)}
        return crop(self._drawn(name, lambda shape: numbers[shape.label]).astype(np.uint16), window)

    def instances(self, name: str, window: Window | None = None) -> np.ndarray:
        return crop(self._drawn(name, lambda shape: shape.number), window)

    def describe_label(self, name: str) -> str:
        return str(self._labels[name])

    def remarks(self, name: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        height, width = self.shape(name)
        for number, shape in enumerate(self._shapes[name], start=1):
            alone = Image.new("L", (width, height))
            self._draw(alone, shape, 1, "")
            if alone.getbbox() is None:
                found.append((NOTHING_DRAWN, f"shape {number} of {self._labels[name].name}"))
        return found

    def _drawn(self, name: str, value: Any) -> np.ndarray:
        """The shapes of an image in their order, each in its ``value``, (H, W) int32."""
        height, width = self.shape(name)
        if self._sizes[name] not in (None, (height, width)):
            drawn_height, drawn_width = self._sizes[name]
            raise InputError(
                f"{self._labels[name]} was drawn on an image of {drawn_width} x {drawn_height} pixels, but "
                f"{self.files[name]} is {width} x {height}: put the image back that it was drawn on, or draw it anew"
            )
        canvas = Image.new("I", (width, height))
        for number, shape in enumerate(self._shapes[name], start=1):
            where = f"{self._labels[name]}: shape {number} ({shape.label})"
            (left, top), (right, bottom) = np.min(shape.points, 0), np.max(shape.points, 0)
            if right < 0 or bottom < 0 or left >= width or top >= height:
                raise InputError(
                    f"{where} lies outside of its image, from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) where "
                    f"{self.files[name].name} has {width} x {height} pixels: move or remove it"
                )
            if (
                shape.kind not in ("point", "mask")
                and 0 <= min(left, top)
                and max(right, bottom) <= 1 < min(width, height)
            ):
                raise InputError(
                    f"{where} has coordinates from 0 to 1 alone, and labelme's are pixels: multiply x by the image's "
                    f"width ({width}) and y by its height ({height})"
                )
            self._draw(canvas, shape, value(shape), where)
        return np.array(canvas)

    def _draw(self, canvas: Image.Image, shape: Shape, value: int, where: str) -> None:
        draw, points = ImageDraw.Draw(canvas), shape.points
        low, high = tuple(np.min(points, 0).tolist()), tuple(np.max(points, 0).tolist())
        match shape.kind:
            case "mask":
                canvas.paste(value, tuple(round(corner) for corner in points[0]), _stencil(shape.mask, where))
            case "rectangle":
                draw.rectangle((low, high), fill=value)
            case "circle":
                draw.ellipse(_around(points[0], math.dist(*points[:2])), fill=value)
            case "point":
                draw.ellipse(_around(points[0], self.settings.point_radius), fill=value)
            case "line" | "linestrip":
                draw.line(points, fill=value, width=self.settings.line_width, joint="curve")
            case _:
                draw.polygon(points, fill=value, outline=value)

    def _parsed(self, content: dict[str, Any], file: Path) -> list[Shape]:
        """The shapes of a file; InputError for one that cannot be drawn."""
        found: list[Shape] = []
        objects: dict[Any, int] = {}
        for number, entry in enumerate(content["shapes"], start=1):
            label = entry.get("label") if isinstance(entry, dict) else None
            if label is None:
                raise InputError(f"{file}: shape {number} has no label; give it one or remove it")
            label = as_name(label, f"{file}: shape {number}")
            where, kind = f"{file}: shape {number} ({label})", str(entry.get("shape_type") or "polygon")
            if kind not in POINTS:
                raise InputError(
                    f"{where} is a {kind}, which cannot be drawn; there are {', '.join(POINTS)}"
                    f"{did_you_mean(kind, POINTS)}"
                )
            points = entry.get("points")
            if not isinstance(points, list) or not all(map(_is_point, points)):
                raise InputError(f"{where}: its points are no list of [x, y]")
            if len(points) < POINTS[kind]:
                raise InputError(
                    f"{where} has {len(points)} point(s), a {kind} has {POINTS[kind]} or more; redraw or remove it"
                )
            if kind in NEEDED and getattr(self.settings, NEEDED[kind]) is None:
                raise InputError(f"{where} is a {kind}: say how many pixels it takes with data.labelme.{NEEDED[kind]}")
            group = entry.get("group_id")
            one = number if group is None else (label, str(group))
            points = [(float(x), float(y)) for x, y in points]
            found.append(Shape(label, kind, points, entry.get("mask"), objects.setdefault(one, len(objects) + 1)))
        return found


def _read(file: Path) -> dict[str, Any]:
    content = read_json(file, f"no such file: {file}; put it back")
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError(f"{file} is no labelme file, for it holds no list of shapes; put it elsewhere")
    return content


def _gone(file: Path, content: dict[str, Any], folder: Path) -> InputError:
    name = PureWindowsPath(str(content.get("imagePath") or file.stem)).name
    if (folder / name).is_file():
        return InputError(f"{file} is of {folder / name}: make of the image {file.stem}.png, .tif or .jpg")
    return InputError(
        f"{file}: its image ({name}) is gone, {folder} holds no PNG, TIFF or JPEG file of the stem {file.stem}; put it "
        "back, or remove the JSON file"
    )


def _is_point(point: Any) -> bool:
    numbers = isinstance(point, list) and len(point) == 2 and all(isinstance(part, (int, float)) for part in point)
    return numbers and all(abs(part) < FARTHEST for part in point)  # false for NaN as well


def _around(centre: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    return x - radius, y - radius, x + radius, y + radius


def _stencil(mask: Any, where: str) -> Image.Image:
    """The pixels of a mask, which stand in base64 as a PNG."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(mask)), formats=["PNG"]) as picture:
            return Image.fromarray(np.asarray(picture) > 0)
    except (TypeError, ValueError, OSError, SyntaxError) as error:
        raise InputError(f"{where}: its mask is no PNG in base64; draw it anew or remove it") from error
