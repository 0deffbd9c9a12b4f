"""Pairs of files: the folders images/ and masks/ of a split, paired by stem; instances/ beside them, or alone."""

from pathlib import Path
from typing import Any

import numpy as np

from samseg.data.formats.images import image_shape, list_images, orientation, read_label
from samseg.data.raster import Window
from samseg.data.sources.files import FileSource, by_stem, images_in
from samseg.errors import InputError


class FolderSource(FileSource):
    """The pairs of ``root/split/images`` and ``root/split/masks``.

    Raises InputError for a folder that is missing or empty, and two files of one stem.
    Objects are read from ``root/split/instances`` where that folder is: 16-bit (or 8-bit) PNG, 0 background. Where they
    are and masks are not, the masks are 1 in objects and 0 elsewhere.
    """

    def __init__(self, root: str | Path, split: str, settings: Any = None):
        super().__init__(root, split, settings)
        folder = Path(root) / split
        self.files = _by_stem(folder / "images")
        images_in(folder / "images")
        self._instances = _by_stem(folder / "instances") if (folder / "instances").is_dir() else None
        alone = self._instances is not None and not (folder / "masks").is_dir()
        self._masks = None if alone else _by_stem(folder / "masks")
        partners = [("image", self.files, "instance", self._instances)]
        if alone:
            partners += [("instance", self._instances, "image", self.files)]
        else:
            partners += [("image", self.files, "mask", self._masks), ("mask", self._masks, "image", self.files)]
        for kind, files, other, others in partners:
            if others is None:
                continue
            for stem in sorted(files.keys() - others.keys()):
                self.wrong[stem] = InputError(
                    f"{files[stem]} is without {other}: every {kind} in {kind}s/ needs a file of the same stem in "
                    f"{other}s/"
                )
        self.names = sorted(self.files.keys() - self.wrong.keys())

    @classmethod
    def images(cls, root: str | Path, split: str, settings: Any = None) -> list[Path]:
        return images_in(Path(root) / split / "images")

    def check(self, name: str) -> None:
        """Refuse an image that EXIF turns beside a mask that it does not turn, where the sizes do not tell which fits.

        Both are read upright. A mask drawn on the upright image fits; one drawn on the pixels as they are stored does
        not, and nobody sees it in an image that is square or upside down.
        """
        image, mask = self.files[name], (self._masks or self._instances)[name]
        turned = orientation(image)
        if turned == 1 or turned == orientation(mask):
            return
        height, width = image_shape(image)
        if turned <= 4 or height == width:
            raise InputError(
                f"EXIF turns {image} (orientation {turned}) but not {mask}, and their sizes do not tell whether they "
                "fit: turn the image's pixels (mogrify -auto-orient), or only remove the tag (exiftool -Orientation=) "
                "if the mask was drawn on the image as it is stored"
            )

    def label(self, name: str, window: Window | None = None, colours: bool = False) -> np.ndarray:
        if self._masks is not None:
            return read_label(self._masks[name], window, colours)
        inside = (self.instances(name, window) > 0).astype(np.uint8)
        return np.repeat(inside[..., None], 3, axis=2) if colours else inside

    def instances(self, name: str, window: Window | None = None) -> np.ndarray | None:
        if self._instances is None:
            return None
        objects = read_label(self._instances[name], window)
        if objects.ndim != 2:
            raise InputError(f"{self._instances[name]} has colours; number the objects in one channel, 0 background")
        if objects.dtype == np.uint8 and len(np.unique(objects)) == 256:
            raise InputError(
                f"{self._instances[name]} has 8 bits, and all of its 255 numbers are taken: objects beyond them would "
                "share numbers with others; write instances with 16 bits"
            )
        return objects.astype(np.int32)

    def describe_label(self, name: str) -> str:
        if self._masks is not None:
            return str(self._masks[name])
        return f"{self._instances[name]} (without masks/: 1 in objects, 0 elsewhere)"


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(
            f"no such folder: {folder}; data.root needs train/, val/ and test/, each with images/ and masks/ (or, for "
            "objects without classes, instances/)"
        )
    return by_stem(list_images(folder))
