"""The contract of a source: where the images and labels of a split come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from samseg.common.errors import ConfigError, InputError
from samseg.data.raster import Raster, Window

UNLABELLED = 2**16 - 1  # in the labels of `named` sources: nobody said what is there


class Georeference(NamedTuple):
    """Where an image lies on Earth: its coordinate system as WKT, and what makes (column, row) into (x, y) there."""

    crs: str | None
    transform: tuple[float, float, float, float, float, float]  # x = a column + b row + c, y = d column + e row + f


class Layout(NamedTuple):
    """How the files of a source lie under a root, as `Source.recognise` found it."""

    settings: Any  # the source's section of the configuration
    what: str  # the labels that are there, and where, for people
    splits: bool  # whether train and val are told apart; otherwise ``data.split`` draws them
    classes: dict[str, Any] | None = None  # ``data.classes`` as a file beside the masks names them; None: there is none
    ignore: Sequence[Any] = ()  # ``data.ignore``, by the convention of the format


class Source(ABC):
    """The images of one split and what is known of them, by name. It can be pickled and keeps no file open.

    A window is (top, left, height, width) in pixels and lies within the image; None is all of it. A source reads no
    more of a file than the window needs, where the format allows it.

    Attributes:
        section: the source's own keys stand in ``data.<section>``; None: it has none.
        split_keys: those of them that hold {split}, where the splits are told apart.
        named: labels tell apart `categories` that have names, and data.classes names them; otherwise labels hold values
            (numbers or colours), and data.classes names those.
        objects: evaluation also scores objects, as `instances` tells them apart: by connected areas of a class.
        split: train, val, test ...
        settings: the source's section of the configuration.
        names: of the images, sorted, each once.
        categories: of a ``named`` source: how many objects each has in the split, in the order of the numbers that
            stand for them in labels, from 1; 0 is where there is no object, `UNLABELLED` where nobody looked.
        wrong: what keeps an image from being used, such as a mask that is missing, by its name, which is not among
            `names`. All of it is told when data are checked, and training refuses such data.
        notes: what a reader should know of the split, such as images without labels; shown when data are checked.
    """

    section: ClassVar[str | None] = None
    split_keys: ClassVar[tuple[str, ...]] = ()
    named: ClassVar[bool] = False
    objects: ClassVar[bool] = False

    def __init__(self, root: str | Path, split: str, settings: Any = None):
        self.split, self.settings = split, settings
        self.names: list[str] = []
        self.categories: dict[str, int] = {}
        self.wrong: dict[str, InputError] = {}
        self.notes: list[str] = []

    @classmethod  # noqa: B027 (a source may have no keys)
    def complete(cls, settings: Any) -> None:
        """Check the source's own keys and fill in, in place, what is left out; ConfigError."""

    @classmethod
    def check_splits(cls, settings: Any, keys: Sequence[str] | None = None) -> None:
        """ConfigError where `split_keys`, or ``keys``, do not tell splits apart, which ``data.split`` then draws."""
        for key in cls.split_keys if keys is None else keys:
            if "{split}" not in (value := str(getattr(settings, key))):
                raise ConfigError(
                    f"data.{cls.section}.{key} must hold {{split}}, which stands for train, val or test; got "
                    f"{value!r}; data.split=[0.7, 0.15, 0.15] draws the splits where there are none"
                )

    @classmethod
    def recognise(cls, root: Path) -> Layout | None:
        """How files of this source lie under ``root``, by their names and beginnings; None: there are none."""
        return None

    @classmethod
    @abstractmethod
    def images(cls, root: str | Path, split: str, settings: Any = None) -> list[Path]:
        """The image files of a split, labelled or not; InputError if there are none."""

    def check(self, name: str) -> None:  # noqa: B027 (there may be nothing)
        """InputError for what reading an image and its label would not show, before the first step."""

    def remarks(self, name: str) -> list[tuple[str, str]]:
        """What a reader should know of an image's objects: (what holds for it, which object), counted by the check.

        The first continues "2 objects (...) ...".
        """
        return []

    @abstractmethod
    def shape(self, name: str) -> tuple[int, int]:
        """(H, W) of an image, without reading its pixels."""

    @abstractmethod
    def image(self, name: str, window: Window | None = None) -> Raster:
        """All bands (C, H, W) of any dtype, and which pixels are valid."""

    def may_lack_data(self, name: str) -> bool:
        """False where it is certain, without reading its pixels, that all of an image's pixels hold data."""
        return True

    @abstractmethod
    def label(self, name: str, window: Window | None = None, colours: bool = False) -> np.ndarray:
        """The raw label (H, W) of any dtype, or in ``colours`` (H, W, 3) uint8."""

    def instances(self, name: str, window: Window | None = None) -> np.ndarray | None:
        """Objects as (H, W) int32, 0 background, the others in no order; None: objects are not told apart."""
        return None

    @abstractmethod
    def digest(self, name: str) -> str:
        """Tells the content of an image apart from any other's: 32 hexadecimal digits."""

    def georeference(self, name: str) -> Georeference | None:
        return None

    @abstractmethod
    def image_file(self, name: str) -> Path:
        """The file that the image is read from, to be named in errors."""

    @abstractmethod
    def describe_label(self, name: str) -> str:
        """What errors call the label: its file."""
