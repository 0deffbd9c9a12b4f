"""Classes as pictures: a palette, class maps, overlays and a legend."""

from functools import lru_cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from samseg.common.errors import InputError
from samseg.common.files import write_bytes

RGB = tuple[int, int, int]
OPACITY = 0.45  # of the tint over a class's area; its border is opaque
# Class 0 is most often the background: nearly black. After it the colours of Okabe and Ito (2008), "Color Universal
# Design", which stay apart for colour-blind eyes, the most eye-catching first.
FIRST: tuple[RGB, ...] = (
    (35, 38, 43), (230, 85, 0), (86, 180, 233), (240, 228, 66), (0, 158, 115), (204, 121, 167), (0, 114, 178),
    (245, 160, 20), (126, 58, 168), (150, 210, 50), (150, 75, 35), (225, 20, 90),
)  # fmt: skip
COLOURS = 255  # that there are: class 255 is none
IGNORED: RGB = (128, 128, 128)


def palette(n: int) -> list[RGB]:
    """``n`` clearly distinct colours, the same at every call; `palette(5)` begins as `palette(4)`. At most 255."""
    if not 1 <= n <= COLOURS:
        raise InputError(f"colours are there for 1 to {COLOURS} classes, got {n}")
    return list(_colours()[:n])


@lru_cache(maxsize=1)
def _colours() -> tuple[RGB, ...]:
    """`FIRST`, then each time the colour farthest from all before it, as the eye sees it (in CIELAB)."""
    levels = np.linspace(0, 255, 16).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(candidates)
    bright = lab[:, 0] > 30  # dark colours are lost on photographs
    candidates, lab = candidates[bright], lab[bright]
    taken = list(FIRST)
    nearest = np.min([np.linalg.norm(lab - colour, axis=1) for colour in _lab(np.array(FIRST, np.uint8))], axis=0)
    while len(taken) < COLOURS:
        farthest = int(nearest.argmax())
        taken.append(tuple(int(value) for value in candidates[farthest]))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[farthest], axis=1))
    return tuple(taken)


def _lab(colours: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[0]


def coloured(classes: np.ndarray) -> np.ndarray:
    """Class indices (H, W) as colours (H, W, 3) uint8, 255 (ignored) grey."""
    return np.array([*palette(COLOURS), IGNORED], np.uint8)[classes]


def save_class_map(path: str | Path, classes: np.ndarray) -> None:
    """Write class indices (H, W) uint8 as a palette PNG: pixel values are the indices, 255 (ignored) shows white."""
    picture = Image.fromarray(classes)
    picture.putpalette([value for colour in [*palette(COLOURS), (255, 255, 255)] for value in colour])
    _write(path, picture)


def save_picture(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as the suffix says, whole or not at all; thin coloured lines stay sharp in JPEG."""
    _write(path, Image.fromarray(image), quality=92, subsampling=0)


def _write(path: str | Path, picture: Image.Image, **options: int) -> None:
    encoded = BytesIO()
    picture.save(encoded, Image.registered_extensions()[Path(path).suffix.lower()], **options)
    write_bytes(path, encoded.getvalue())


def background_of(names: list[str]) -> int | None:
    """The class called "background", which is not drawn; None where there is none."""
    return names.index("background") if "background" in names else None


def overlay(image: np.ndarray, classes: np.ndarray, background: int | None = 0, opacity: float = OPACITY) -> np.ndarray:
    """The image (H, W, 3) uint8 tinted in its classes' colours (H, W) uint8, each area with a thin opaque border.

    The class ``background`` (None: no class) and ignored pixels (255) are left as photographed.
    """
    colours = np.array([*palette(COLOURS), (255, 255, 255)], np.uint8)
    shares = np.full(COLOURS + 1, opacity, np.float32)
    shares[[COLOURS] if background is None else [COLOURS, background]] = 0
    share = shares[classes]
    share[borders(classes) & (share > 0)] = 1
    return (image + share[..., None] * (colours[classes].astype(np.float32) - image) + 0.5).astype(np.uint8)


def borders(classes: np.ndarray, ignore: int | None = None) -> np.ndarray:
    """(H, W) bool: pixels with a neighbour of another class above, below, left or right; ``ignore`` is none."""
    found = np.zeros(classes.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = classes[here] != classes[there]
        if ignore is not None:
            differs &= (classes[here] != ignore) & (classes[there] != ignore)
        found[here] |= differs
        found[there] |= differs
    return found


def legend(names: list[str]) -> np.ndarray:
    """A picture (h, w, 3) uint8 of the classes' colours, indices and names, in columns of at most 32."""
    font = ImageFont.load_default(size=16)
    line, box, lines = 26, 18, min(32, len(names))
    width = box + 24 + int(max(font.getlength(f"254  {name}") for name in names))
    picture = Image.new("RGB", (width * -(-len(names) // lines) + 8, line * lines + 8), "white")
    draw = ImageDraw.Draw(picture)
    for index, (name, colour) in enumerate(zip(names, palette(len(names)))):
        x, y = 8 + index // lines * width, 8 + index % lines * line
        draw.rectangle((x, y, x + box, y + box), fill=colour)
        draw.text((x + box + 8, y + box // 2), f"{index}  {name}", fill="black", font=font, anchor="lm")
    return np.asarray(picture)
