"""The base of sources that read one file an image, and what they share: folders of images, JSON, checks, words."""

import json
from pathlib import Path
from typing import Any

from samseg.common.errors import InputError, first_line
from samseg.common.files import file_digest
from samseg.data.formats.images import image_shape, may_lack_data, read_image
from samseg.data.raster import Raster, Window
from samseg.data.sources.places import list_images, place
from samseg.data.sources.source import Source

NAMED = 3  # so many files are named in an error
NOTHING_DRAWN = "of which no pixel lies in the image, so nothing is drawn"  # a remark on an object


class FileSource(Source):
    """A source whose images are PNG, TIFF or JPEG files.

    Attributes:
        files: the image files by name.
    """

    files: dict[str, Path]

    def shape(self, name: str) -> tuple[int, int]:
        return image_shape(self.files[name])

    def image(self, name: str, window: Window | None = None) -> Raster:
        return read_image(self.files[name], window)

    def may_lack_data(self, name: str) -> bool:
        return may_lack_data(self.files[name])

    def digest(self, name: str) -> str:
        return image_digest(self.files[name])

    def image_file(self, name: str) -> Path:
        return self.files[name]


def images_in(folder: Path, section: str) -> list[Path]:
    """The image files of a folder, sorted; InputError for one that is not there, naming the key, or holds none."""
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}; data.{section}.images says where the images lie")
    found = list_images(folder)
    if not found:
        raise InputError(f"{folder} holds no images; they must be PNG, TIFF or JPEG")
    return found


def images_and_annotations(root: str | Path, split: str, settings: Any) -> tuple[Path, Path]:
    """The folder of images and the file or folder of annotations of a split, by their keys."""
    return place(root, settings.images, split), place(root, settings.annotations, split)


def image_digest(file: Path) -> str:
    """The first 32 hexadecimal digits of a file's SHA-256; InputError for a file that cannot be read."""
    try:
        return file_digest(file)[:32]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; replace the file") from error


def counted(names: list[str], kind: str) -> str:
    """ "2 images (a.png, b.png)"; of many, the first few."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {kind}{'s' if len(names) > 1 else ''} ({', '.join(names[:NAMED])}{more})"


def read_json(file: Path, missing: str) -> Any:
    """What a JSON file holds; InputError for one that cannot be read, or says ``missing`` where there is none."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise InputError(missing) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {first_line(error)}") from error


def as_side(value: Any, key: str, where: str) -> int | None:
    """The width or height in pixels that an annotation file says of an image; None where it says nothing (null)."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and 1 <= value < 2**31 and value % 1 == 0:
        return int(value)
    raise InputError(f"{where} has {key} {json.dumps(value)}; write the image's, a number of pixels, or leave it out")


def as_name(value: Any, where: str) -> str:
    """A category's name; a whole number is its digits."""
    if isinstance(value, str) or type(value) is int:
        return str(value)
    raise InputError(f"{where} has the name {json.dumps(value)}; names are text")
