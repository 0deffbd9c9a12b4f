"""Where the files of a split lie: what the keys that name places mean, and which files on disk other tools mean."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import unquote

from samseg.common.errors import ConfigError, InputError
from samseg.data.formats.images import SUFFIXES
from samseg.data.sources.source import Layout

# How tools call the splits; the first spelling that is there is taken.
SPELLINGS = {
    "train": ("train", "Train", "training"),
    "val": ("val", "valid", "validation", "Val", "Valid", "Validation"),
    "test": ("test", "Test", "testing"),
}
SPLITS = tuple(SPELLINGS)
SPELT = re.compile(f"(?<![A-Za-z])({'|'.join(SPELLINGS['train'])})(?![a-z])")
FOLDERS_OF_IMAGES = (
    *("images/{split}", "{split}/images", "{split}", "images/{split}2017", "{split}2017", "images/default", "images"),
    *("JPEGImages", ""),
)
BEGINNING = 2**16  # bytes of a file that tell what it is
UPLOADED = re.compile("[0-9a-f]{8}-")  # that Label Studio puts before the names of files


def place(root: str | Path, text: str, split: str) -> Path:
    """What a key names for a split, {split} being its name or another spelling of it: valid for val."""
    spelt = [Path(root) / text.replace("{split}", name) for name in SPELLINGS.get(split, (split,))]
    return next((path for path in spelt if path.exists()), spelt[0])


def normal(name: str) -> str:
    """A name in Unicode's composed form: macOS writes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)


def name_in(folder: Path, file: Path) -> str:
    """A file's name without its ending, with the folders inside ``folder`` that it lies in."""
    inside = file.relative_to(folder) if file.is_relative_to(folder) else file
    return normal(inside.with_suffix("").as_posix())


def by_name(folder: Path, named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Files by their names; InputError for two of one name."""
    found: dict[str, Path] = {}
    for name, file in named:
        if name in found:
            raise InputError(
                f"{folder} holds {found[name].name} and {file.name}: two files of one stem cannot be told apart; "
                "remove or rename one"
            )
        found[name] = file
    return found


class Pattern:
    """A key such as ``{split}/masks/{name}_mask.png``: a folder, and what a file in it is called.

    {name} is what an image and its label share. ``**/`` before it: it includes folders inside the folder. Without an
    ending it matches them all.
    """

    def __init__(self, key: str, text: str):
        self.text = text
        head, _, self._after = text.partition("{name}")
        self._folder, _, self._before = head.rpartition("/")
        self.deep = self._folder.split("/")[-1] == "**"
        if self.deep:
            self._folder = self._folder[:-2].rstrip("/")
        odd = "*" in self._folder or re.search(r"[/*]|{split}", self._before + self._after)
        if text.count("{name}") != 1 or odd:
            raise ConfigError(
                f"{key} must be a folder and what files in it are called, as in masks/{{name}}_mask.png, or "
                f"masks/**/{{name}}_mask.png for those in its folders, too; got {text!r}"
            )

    def folder(self, root: str | Path, split: str) -> Path:
        return place(root, self._folder, split)

    def called(self, name: str) -> str:
        """What the file of a name is called, for errors: masks/a_mask.png, or masks/a.* of any ending."""
        ending = "" if Path(self._after).suffix else ".*"
        inside = self._folder.rpartition("/")[2].replace("{split}", "")
        return f"{inside}/{self._before}{name}{self._after}{ending}".removeprefix("/")

    def files(self, root: str | Path, split: str, endings: tuple[str, ...]) -> dict[str, Path]:
        """The files by name, of these ``endings`` in any case; InputError for two of one name."""
        folder = self.folder(root, split)
        before, after = re.escape(normal(self._before)), re.escape(normal(self._after))
        if not self._after.lower().endswith(endings):
            after += f"(?i:{'|'.join(map(re.escape, endings))})"
        called = re.compile(f"{before}(.+?){after}", re.DOTALL)
        named = []
        for file in files_in(folder, self.deep):
            inside = file.parent.relative_to(folder)
            if match := called.fullmatch(normal(file.name)):
                named.append((normal((inside / match[1]).as_posix()), file))
        return by_name(folder, named)


def files_in(folder: Path, deep: bool = False) -> list[Path]:
    """The files of a folder, or also of those inside, sorted; hidden ones are left out."""
    files: list[Path] = []
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            files.append(Path(entry.path))
        elif deep and entry.is_dir():
            files += files_in(Path(entry.path), deep)
    return sorted(files)


def list_images(folder: Path) -> list[Path]:
    """The PNG, TIFF and JPEG files of a folder by their endings, in any case, as `files_in`."""
    return [file for file in files_in(folder) if file.name.lower().endswith(SUFFIXES)]


def files_meant(folder: Path, names: list[str]) -> list[Path | None]:
    """The files in ``folder`` that an annotation tool names; None for those that are not there.

    Names may have backslashes, be URL-encoded, or have accents composed otherwise. Where none lies in the folder so,
    they are paths of another machine, and their last part is looked for, also without what Label Studio puts before it.
    """
    if all((folder / name).is_file() for name in names):
        return [folder / name for name in names]
    there = {normal(file.relative_to(folder).as_posix()): file for file in files_in(folder, deep=True)}
    slashes = [normal(name.replace("\\", "/")) for name in names]
    decoded = [normal(unquote(name)) for name in slashes]
    last = [name.rpartition("/")[2] for name in decoded]
    bare = [UPLOADED.sub("", name, count=1) for name in last]
    for spelt in (list(zip(slashes, decoded, strict=True)), [(name,) for name in last], [(name,) for name in bare]):
        found = [next((there[name] for name in either if name in there), None) for either in spelt]
        if any(found):
            return found
    return [None] * len(names)


def annotation_files(root: Path, kind: Callable[[bytes], bool]) -> list[str]:
    """The JSON files up to two folders deep whose beginning is of a ``kind``, as keys name them: {split} for train."""
    texts = []
    for file in [file for pattern in ("*", "*/*", "*/*/*") for file in root.glob(pattern)]:
        if file.suffix.lower() == ".json" and not file.name.startswith(".") and file.is_file():
            with open(file, "rb") as content:
                if kind(content.read(BEGINNING).lstrip(b"\xef\xbb\xbf \r\n\t")):
                    texts.append(SPELT.sub("{split}", file.relative_to(root).as_posix()))
    return sorted(set(texts))


def folder_of_images(root: Path, annotations: str) -> str:
    """The folder of the images that an annotation file, as a key names it, is of; images if there is none."""
    beside = annotations.rpartition("/")[0]
    folders = [f"{beside}/images".lstrip("/"), beside, *FOLDERS_OF_IMAGES]
    if "{split}" not in annotations:
        folders = [text for text in folders if "{split}" not in text]
    there = (text for text in folders if (folder := place(root, text, "train")).is_dir() and list_images(folder))
    return next(there, "{split}/images" if "{split}" in annotations else "images")


def annotated_layout(root: Path, found: list[str], config: type, what: str) -> Layout | None:
    """The layout of images and the first of the annotation files ``found``; None if there is none.

    ``config``: the source's section, of keys ``images`` and ``annotations``. ``what``: the files, for people.
    """
    if not found:
        return None
    images = folder_of_images(root, found[0])
    splits = "{split}" in found[0] and place(root, found[0], "val").is_file()
    return Layout(config(images, found[0]), f"{what} {found[0]}, images in {images or root}/", splits)
