"""Pairs of files: the folders images/ and masks/ of a split, paired by stem; instances/ beside them if there are."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from samseg.data.images import Raster, Window, image_shape, list_images, may_lack_data, read_image, read_label
from samseg.data.sources.files import file_digest
from samseg.data.sources.source import Source
from samseg.errors import InputError

NAMED = 3  # so many files are named in an error


class FolderSource(Source):
    """The pairs of ``root/split/images`` and ``root/split/masks``.

    Raises InputError for a folder that is missing or empty, two files of one stem, and an image or a mask left alone.
    Objects are read from ``root/split/instances`` where that folder is: 16-bit (or 8-bit) PNG, 0 background.
    """

    def __init__(self, root: str | Path, split: str, settings: Any = None):
        super().__init__(root, split, settings)
        folder = Path(root) / split
        self._images, self._masks = (_by_stem(folder / kind) for kind in ("images", "masks"))
        _check_partners(folder, "image", self._images, "mask", self._masks)
        _check_partners(folder, "mask", self._masks, "image", self._images)
        if not self._images:
            raise _empty(folder / "images")
        self._instances = None
        if (folder / "instances").is_dir():
            self._instances = _by_stem(folder / "instances")
            _check_partners(folder, "image", self._images, "instance", self._instances)
        self.names = sorted(self._images)

    @classmethod
    def images(cls, root: str | Path, split: str, settings: Any = None) -> list[Path]:
        folder = Path(root) / split / "images"
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder}")
        found = list_images(folder)
        if not found:
            raise _empty(folder)
        return found

    def shape(self, name: str) -> tuple[int, int]:
        return image_shape(self._images[name])

    def image(self, name: str, window: Window | None = None) -> Raster:
        return read_image(self._images[name], window)

    def may_lack_data(self, name: str) -> bool:
        return may_lack_data(self._images[name])

    def label(self, name: str, window: Window | None = None, colours: bool = False) -> np.ndarray:
        return read_label(self._masks[name], window, colours)

    def instances(self, name: str, window: Window | None = None) -> np.ndarray | None:
        if self._instances is None:
            return None
        objects = read_label(self._instances[name], window)
        if objects.ndim != 2:
            raise InputError(f"{self._instances[name]} has colours; number the objects in one channel, 0 background")
        return objects.astype(np.int32)

    def digest(self, name: str) -> str:
        return file_digest(self._images[name])

    def image_file(self, name: str) -> Path:
        return self._images[name]

    def describe_label(self, name: str) -> str:
        return str(self._masks[name])


def _check_partners(folder: Path, kind: str, files: dict[str, Path], other: str, others: dict[str, Path]) -> None:
    alone = [files[stem] for stem in files if stem not in others]
    if alone:
        raise InputError(
            f"{folder}: {_some(alone, kind)} without {other}: every {kind} in {kind}s/ needs a file of the same stem "
            f"in {other}s/"
        )


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


def _empty(folder: Path) -> InputError:
    return InputError(f"{folder} is empty: it must hold PNG, TIFF or JPEG images")


def _some(files: Iterable[Path], kind: str) -> str:
    names = [file.name for file in files]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {kind}{'s' if len(names) > 1 else ''} ({', '.join(names[:NAMED])}{more})"
