"""The kinds of sections of a report, which a task fills and the page draws.

Nothing here knows a metric, and nothing of a page: a task says what there is to say, `samseg.report` how it looks.
"""

import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Table:
    """Rows of text under a ``head``; numbers stand right, the first column left."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(frozen=True)
class Text:
    """Text as it stands, lines and columns kept."""

    title: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """Counts (n, n) of rows against columns of the same ``names``, each row shaded by its shares."""

    title: str
    names: list[str]
    counts: np.ndarray
    row: str  # what a row is, such as "truth"
    column: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """Lines of (x, y) points by name; y is None where there is none.

    Attributes:
        unit: whether y is a share, to be seen on the whole scale from 0 to 1.
        diagonal: whether y = x is drawn, too.
    """

    title: str
    x: str
    y: str
    series: dict[str, list[tuple[float, float | None]]]
    unit: bool = False
    diagonal: bool = False
    note: str = ""


@dataclass(frozen=True)
class Point:
    """A point of a `Scatter`: its name, the group that colours it, and the bounds of its y, if they are known."""

    name: str
    group: str
    x: float
    y: float
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scatter:
    """Named points over a logarithmic x."""

    title: str
    x: str
    y: str
    points: list[Point]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """An encoded picture (JPEG or PNG) and the text under it."""

    title: str
    data: bytes


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures, each row with a line of text, and the names of the colours in them."""

    title: str
    rows: list[tuple[str, list[Picture]]]
    colours: dict[str, RGB] = field(default_factory=dict)
    note: str = ""


Section = Table | Text | Matrix | Chart | Scatter | Gallery
LONGEST = 360  # px, of a picture in a report


def encoded(title: str, pixels: np.ndarray, photo: bool) -> Picture:
    """(H, W, 3) uint8, shrunk to `LONGEST`: a ``photo`` as JPEG, plain colours as PNG, without new colours."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR if photo else Image.Resampling.NEAREST)
    content = io.BytesIO()
    if photo:
        picture.save(content, "JPEG", quality=82)
    else:
        picture.quantize(256).save(content, "PNG", optimize=True)
    return Picture(title, content.getvalue())
