"""Which image belongs to which mask: the folders of a split, paired by stem."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samseg.data.classes import ClassMap
from samseg.data.images import list_images, read_image, read_mask_values
from samseg.errors import InputError

NAMED = 3  # so many files are named in an error


class Pair(NamedTuple):
    """An image and its mask; ``name`` is their common stem."""

    name: str
    image: Path
    mask: Path


def find_pairs(root: str | Path, split: str) -> list[Pair]:
    """The pairs of ``root/split/images`` and ``root/split/masks``, sorted by name.

    Raises InputError for a folder that is missing or empty, two files of one stem, and an image or a mask left alone.
    """
    folder = Path(root) / split
    images, masks = (_by_stem(folder / kind) for kind in ("images", "masks"))
    for kind, other, files, others in (("image", "mask", images, masks), ("mask", "image", masks, images)):
        alone = [files[stem] for stem in files if stem not in others]
        if alone:
            raise InputError(
                f"{folder}: {_some(alone, kind)} without {other}: every {kind} in {kind}s/ needs a file of the same "
                f"stem in {other}s/"
            )
    if not images:
        raise InputError(f"{folder}/images is empty: it must hold PNG, TIFF or JPEG images")
    return [Pair(stem, images[stem], masks[stem]) for stem in sorted(images)]


def read_pair(pair: Pair, classes: ClassMap) -> tuple[np.ndarray, np.ndarray]:
    """The image (H, W, 3) uint8 and its class indices (H, W) uint8; InputError when they do not fit each other."""
    image, mask = read_image(pair.image), read_mask(pair, classes)
    if image.shape[:2] != mask.shape:
        raise InputError(
            f"{pair.mask} is {mask.shape[1]} x {mask.shape[0]} pixels, but {pair.image} is {image.shape[1]} x "
            f"{image.shape[0]}; they must be of one size"
        )
    return image, mask


def read_mask(pair: Pair, classes: ClassMap) -> np.ndarray:
    """The class indices (H, W) uint8 alone."""
    return classes(read_mask_values(pair.mask, classes.colours), pair.mask)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(
            f"no such folder: {folder}; data.root needs train/, val/ and test/, each with images/ and masks/"
        )
    files = list_images(folder)
    twice = [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        both = " and ".join(file.name for file in files if file.stem == twice[0])
        raise InputError(f"{folder} holds {both}: two files of one stem cannot be told apart; remove or rename one")
    return {file.stem: file for file in files}


def _some(files: Iterable[Path], kind: str) -> str:
    names = [file.name for file in files]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {kind}{'s' if len(names) > 1 else ''} ({', '.join(names[:NAMED])}{more})"
