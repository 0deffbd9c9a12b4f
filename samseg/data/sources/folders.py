"""Pairs of files: images and masks of one name, as images/ and masks/ of a split; instances beside them, or alone."""

from pathlib import Path

import numpy as np

from samseg.common.errors import InputError, first_line
from samseg.data.formats.images import LABELS_ALONE, SUFFIXES, image_shape, orientation, read_label
from samseg.data.formats.voc_colours import numbers
from samseg.data.raster import Window
from samseg.data.sources.files import FileSource, counted
from samseg.data.sources.folder_layouts import FoldersConfig, recognise_folders
from samseg.data.sources.places import normal, place
from samseg.data.sources.source import Layout

MOST_OBJECTS = 2**16 - 1  # of an image


class FolderSource(FileSource):
    """The images and masks of a split that share a name.

    Objects are read from ``instances`` where that folder is: 16-bit (or 8-bit) PNG, 0 background, or colours as Pascal
    VOC gives them to numbers. Where they are and masks are not, the masks are 1 in objects and 0 elsewhere. What is a
    mask by its name is no image; of images and masks in one folder, images without a mask are left out. Raises
    InputError for a folder that is missing or empty, and two files of one name.
    """

    section = "folders"

    def __init__(self, root: str | Path, split: str, settings: FoldersConfig):
        super().__init__(root, split, settings)
        patterns, found = settings.patterns(), _files(root, split, settings)
        folders = {kind: pattern.folder(root, split) for kind, pattern in patterns.items()}
        self.files = found["image"]
        self._masks, self._instances = found.get("mask"), found.get("instance")
        label = "instance" if "mask" not in patterns or self._instances is not None and self._masks is None else "mask"
        if label not in found:
            raise _no_folder(folders[label])
        pairs = [("image", label), (label, "image"), ("image", "instance")]
        for kind, other in pairs if self._instances is not None else pairs[:2]:
            missing = sorted(found[kind].keys() - found[other].keys())
            if kind == "image" and folders[kind] == folders[other]:
                if missing:
                    left_out = counted([self.files.pop(name).name for name in missing], "image")
                    self.notes.append(f"{split}: {left_out} without {other}: left out")
                continue
            for name in missing:
                self.wrong[name] = InputError(
                    f"{found[kind][name]} is without {other}: every {kind} in {folders[kind].name}/ needs a file "
                    f"{patterns[other].called(name)} (data.folders.{other}s)"
                )
        self.names = sorted(self.files.keys() - self.wrong.keys())

    @classmethod
    def complete(cls, settings: FoldersConfig) -> None:
        settings.patterns()

    @classmethod
    def check_splits(cls, settings: FoldersConfig) -> None:
        label = "instances" if settings.masks is None else "masks"
        super().check_splits(settings, ["names"] if settings.names else ["images", label])

    @classmethod
    def recognise(cls, root: Path) -> Layout | None:
        return recognise_folders(root)

    @classmethod
    def images(cls, root: str | Path, split: str, settings: FoldersConfig) -> list[Path]:
        return sorted(_files(root, split, settings)["image"].values())

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
        if objects.ndim == 3 and (objects := numbers(objects)).max() > MOST_OBJECTS:
            raise InputError(
                f"{self._instances[name]} has colours that do not stand for objects; number the objects in one "
                "channel, 0 background"
            )
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


def _files(root: str | Path, split: str, settings: FoldersConfig) -> dict[str, dict[str, Path]]:
    """The files by name of each kind whose folder is there; InputError where there are no images."""
    patterns = settings.patterns()
    folders = {kind: pattern.folder(root, split) for kind, pattern in patterns.items()}
    if not folders["image"].is_dir():
        raise _no_folder(folders["image"])
    found = {kind: pattern.files(root, split, SUFFIXES) for kind, pattern in patterns.items() if folders[kind].is_dir()}
    for kind in found.keys() - {"image"}:  # a.npy beside a.png is a copy of it, or something else
        others = patterns[kind].files(root, split, LABELS_ALONE)
        used = found["image"].keys() if found[kind] else others.keys()
        found[kind] = {name: file for name, file in others.items() if name in used} | found[kind]
    labels = {file for kind in found.keys() - {"image"} for file in found[kind].values()}
    found["image"] = {name: file for name, file in found["image"].items() if file not in labels}
    if settings.names is not None:
        used = _names(place(root, settings.names, split))
        found = {kind: {name: file for name, file in files.items() if name in used} for kind, files in found.items()}
    if not found["image"]:
        raise InputError(f"{folders['image']} holds no images; they must be PNG, TIFF or JPEG")
    return found


def _names(file: Path) -> set[str]:
    """The names that a text file lists, one a line; InputError for a file that cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"no such file: {file}; data.folders.names says where the names of a split stand") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as text: {first_line(error)}") from error
    return {normal(line.strip().strip('"')) for line in lines}


def _no_folder(folder: Path) -> InputError:
    return InputError(
        f"no such folder: {folder}; data.root needs train/, val/ and test/, each with images/ and masks/ (or, for "
        "objects without classes, instances/); data.folders names other places"
    )
