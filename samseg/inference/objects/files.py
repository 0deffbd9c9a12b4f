"""`samseg infer --objects` and `--to`: the objects of images as maps of numbers, overlays and annotations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from tqdm import tqdm

from samseg.common.errors import InputError, WeightsError
from samseg.common.files import written_whole
from samseg.data.classes import IGNORE_INDEX, names_nothing
from samseg.data.formats.images import read_image
from samseg.data.raster import Raster
from samseg.inference.each import LEGEND, check_names, each_image, output_folder
from samseg.inference.objects.annotation_files import TOOLS, CocoFile
from samseg.inference.objects.find import Objects, by_components, by_generator, by_prompts
from samseg.inference.photos import shrunk
from samseg.inference.predictor import Predictor
from samseg.models.sam.contract import PromptableSam
from samseg.predict.draw import COLOURS, background_of, legend, overlay, save_picture
from samseg.predict.rows import likeliest
from samseg.runs.sam import base_sam, tuned_sam


class ObjectFinder:
    """A run's model as a finder of objects.

    Args:
        predictor: of the run.
        way: "components", "prompts" or "amg"; None: by prompts where the run trained SAM's decoder, else by components.

    Raises:
        InputError: the run has no SAM with prompts, which the way needs, or no dense prediction.
    """

    def __init__(self, predictor: Predictor, way: str | None = None):
        self.predictor = predictor
        self.names = predictor.classes or ["background", "object"]  # a run with prompts alone needs no classes
        self.background = _background(self.names, predictor.config.data.classes)
        tuned = tuned_sam(predictor.model, predictor.preprocessing)
        self.dense = tuned is None or getattr(predictor.model, "class_tokens", None) is not None
        if way is None:
            way = "components" if tuned is None else "prompts" if self.dense else "amg"
        if way != "amg" and not self.dense:
            raise InputError(
                f"--objects {way} starts from a prediction of classes, which this run does not give: it was trained "
                "with prompts alone. Use --objects amg, or train with prompts.none above 0"
            )
        if predictor.tta is not None and not self.dense:
            raise InputError(
                "--tta averages the probabilities of classes, and this run was trained with prompts alone: leave it out"
            )
        if predictor.precision == "auto" and not self.dense:
            raise InputError(
                "precision=auto compares classes, and this run was trained with prompts alone: name bf16 or fp32"
            )
        self.way = way
        self.sam = (tuned or self._base()).to(predictor.device) if way != "components" else None

    def _base(self) -> PromptableSam:
        try:
            sam = base_sam(self.predictor.config)
        except WeightsError as error:
            raise InputError(f"--objects {self.way} needs SAM's mask decoder: {error}") from None
        if sam is None:
            raise InputError(
                f"--objects {self.way} needs SAM's mask decoder, but this run has none and started from none: use "
                "--objects components"
            )
        return sam

    def __call__(self, image: Raster) -> Objects:
        """The objects of an image of any size; there are none where it has no data."""
        if not self.dense:
            return self.find(image, None)
        shape = image.pixels.shape[1:]
        classes, probabilities = np.empty(shape, np.uint8), np.empty(shape, np.float32)
        for rows, logits in self.predictor.rows(image):
            classes[rows] = likeliest(logits)
            probabilities[rows] = logits.softmax(dim=0).amax(dim=0).cpu().numpy()
        valid = self.predictor.preprocessing.valid_pixels(image)
        if valid is not None:
            classes[~valid] = IGNORE_INDEX
        if self.way == "components":
            return by_components(classes, self.background, probabilities=probabilities)
        return self.find(image, classes)

    def find(self, image: Raster, classes: np.ndarray | None) -> Objects:
        """The objects of an image whose ``classes`` (H, W) are predicted; None unless the run is ``dense``."""
        if self.way == "components":
            return by_components(classes, self.background)
        pixels = self.predictor.preprocessing.picture(image)
        if self.way == "prompts":
            return by_prompts(self.sam, pixels, classes, self.background)
        return by_generator(self.sam, pixels, classes, self.background)


def _background(names: list[str], classes: dict[str, Any]) -> int:
    """The class that is no object: background by name, or null in ``data.classes``, or else the first."""
    named = background_of(names)
    if named is not None:
        return named
    return next((index for index, entry in enumerate(classes.values()) if names_nothing(entry)), 0)


def find_in_images(finder: ObjectFinder, images: list[Path], out: Path) -> int:
    """Write the objects of ``images`` into the folder ``out``; returns how many images were skipped.

    ``<stem>.png`` (16 bits: 0 none, else the object's number) or, with over 65535 objects, ``<stem>.tif`` (32 bits);
    ``<stem>_overlay.jpg``; and once ``annotations.json``, COCO with RLE.
    """
    check_names(images, out)
    files = CocoFile(out, images, finder.names, finder.background)
    output_folder(out)
    save_picture(out / LEGEND, legend(finder.names))

    def write(path: Path, image: Raster, objects: Objects) -> None:
        save_instances(out / path.stem, objects.map)
        colours = np.where(objects.map > 0, 1 + (objects.map - 1) % (COLOURS - 1), 0).astype(np.uint8)
        picture = overlay(*shrunk(finder.predictor.preprocessing.picture(image), colours))
        save_picture(out / f"{path.stem}_overlay.jpg", picture)
        files.add(path, objects)

    skipped = _find_in_each(finder, images, out, write)
    files.finish()
    return skipped


def annotate_images(finder: ObjectFinder, images: list[Path], out: Path, tool: str) -> int:
    """Write the objects of ``images`` into the folder ``out`` as the files of a tool; returns how many were skipped.

    ``tool`` is one of `TOOLS`. InputError for two images of one stem, for annotations and files are found by it.
    """
    stems: dict[str, Path] = {}
    for image in images:
        if (other := stems.setdefault(image.stem, image)) is not image:
            raise InputError(
                f"{other} and {image} could not be told apart in {out}; rename one, or give them to two calls with "
                "different --out"
            )
    output_folder(out)
    files = TOOLS[tool](out, images, finder.names, finder.background)
    skipped = _find_in_each(finder, images, out, lambda path, _, objects: files.add(path, objects))
    if skipped < len(images):
        files.finish()
    return skipped


def _find_in_each(
    finder: ObjectFinder, images: list[Path], out: Path, write: Callable[[Path, Raster, Objects], None]
) -> int:
    """Find the objects of each image and ``write`` them; returns how many images were skipped."""
    count = 0

    def find(path: Path) -> None:
        nonlocal count
        image = read_image(path)
        finder.predictor.preprocessing.check_pixels(image.pixels, path)
        objects = finder(image)
        write(path, image, objects)
        count += len(objects.classes)
        tqdm.write(f"{path.name}: {len(objects.classes)} objects")

    done = each_image(images, find)
    print(f"{count} objects in {len(done)} of {len(images)} images ({finder.way}), written to {out}")
    return len(images) - len(done)


def save_instances(stem: Path, numbers: np.ndarray) -> Path:
    """Write an object map (H, W): ``stem``.png of 16 bits, or ``stem``.tif of 32 if it has over 65535 objects."""
    small = numbers.max(initial=0) < 2**16
    file = stem.with_name(f"{stem.name}{'.png' if small else '.tif'}")
    with written_whole(file) as temporary:
        if small:
            temporary.write_bytes(cv2.imencode(".png", numbers.astype(np.uint16))[1].tobytes())
        else:
            tifffile.imwrite(temporary, numbers.astype(np.uint32), compression="zlib")
    return file
