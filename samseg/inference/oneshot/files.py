"""`OneShot` on files: reference masks read, class maps and overlays written."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.data.formats.images import read_image, read_label
from samseg.inference.each import LEGEND, each_image, output_folder
from samseg.inference.oneshot.oneshot import OneShot
from samseg.inference.photos import shrunk
from samseg.predict.draw import COLOURS, legend, overlay, save_class_map, save_picture

MOST_CLASSES = 64  # more values are a mask with smoothed edges, not classes


def read_reference(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """An example: the image (H, W, 3) uint8 and its mask (H, W), 0 for nothing and a class's number elsewhere.

    A mask with one value beside 0, or in colours, has the class 1. Raises InputError, naming the file, for a mask that
    is empty, of another size than the image, or no map of classes.
    """
    picture, values = read_rgb(image), read_label(mask)
    if values.ndim == 3:
        values = values.any(axis=-1)
    found = np.unique(values[values > 0])
    if not len(found):
        raise InputError(f"{mask} is empty: every pixel is 0; mark what is to be found in {image} with other values")
    if len(found) == 1:
        values = values > 0
    elif len(found) > MOST_CLASSES or found[-1] >= COLOURS:
        raise InputError(
            f"{mask} has {len(found)} values up to {found[-1]}; expected 0 and one other, or up to {MOST_CLASSES} "
            f"classes below {COLOURS}, without smoothed edges"
        )
    if values.shape != picture.shape[:2]:
        raise InputError(f"{mask} has shape {values.shape}, but its image {image} has {picture.shape[:2]}")
    return picture, values.astype(np.uint8)


def read_rgb(path: Path) -> np.ndarray:
    """An image as (H, W, 3) uint8: grey repeated, a fourth band dropped; InputError for more than 8 bits a band."""
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8:
        raise InputError(f"{path} holds {pixels.dtype}; SAM takes 8 bits a band: convert it with the scale you want")
    bands = pixels[:3] if len(pixels) >= 3 else pixels[[0, 0, 0]]
    return np.ascontiguousarray(bands.transpose(1, 2, 0))


def find_in_images(oneshot: OneShot, images: list[Path], out: Path) -> int:
    """Write ``<stem>.png`` and ``<stem>_overlay.jpg`` for each image, and a legend, into the folder ``out``.

    Returns how many could not be done: they are reported and skipped.
    """
    output_folder(out)
    save_picture(out / LEGEND, legend(["nothing", *map(str, range(1, max(oneshot.targets) + 1))]))

    def find(path: Path) -> None:
        image = read_rgb(path)
        found = oneshot.find(image)
        classes = oneshot.classes(found, image.shape[:2])
        save_class_map(out / f"{path.stem}.png", classes)
        save_picture(out / f"{path.stem}_overlay.jpg", overlay(*shrunk(image, classes)))
        scores = ", ".join(f"{one.label}: {one.score:.2f}" for one in found) or "nothing found"
        tqdm.write(f"{path.name}: {scores}")

    done = each_image(images, find)
    failed = len(images) - len(done)
    print(f"{len(done)} of {len(images)} images done in {out}" + (f"; {failed} skipped" if failed else ""))
    return failed
