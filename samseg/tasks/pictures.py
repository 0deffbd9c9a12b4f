"""Pages of pictures, for a run's `validation.png` and `samples.png`."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SAMPLED = 6  # training images in a picture
WIDTH, GAP, TITLE = 420, 12, 28  # of a picture, between pictures, of a line of text, in pixels
Titled = tuple[str, np.ndarray]  # a line of text and the picture (H, W, 3) uint8 under it


def spread(items: int, most: int = 4) -> list[int]:
    """Up to ``most`` indices of ``items``, first and last among them, evenly apart."""
    return np.unique(np.linspace(0, items - 1, most).round().astype(int)).tolist()


def sample_page(samples: list[tuple[np.ndarray, np.ndarray]], key: np.ndarray | None = None) -> np.ndarray:
    """Training images (H, W, 3), each beside itself with its truth drawn, two a row: (H, W, 3) uint8."""
    titled = [[("what the network is given", image), ("with its truth", truth)] for image, truth in samples]
    return page([sum(titled[start : start + 2], []) for start in range(0, len(titled), 2)], key)


def page(rows: list[list[Titled]], key: np.ndarray | None = None) -> np.ndarray:
    """Rows of titled pictures, brought to one width, with a ``key`` (h, w, 3) under them: (H, W, 3) uint8."""
    fitted = [[(title, _fitted(Image.fromarray(picture))) for title, picture in row] for row in rows]
    height, width = key.shape[:2] if key is not None else (GAP, 0)
    width = max(max(map(len, rows)) * (WIDTH + GAP) + GAP, width)
    canvas = Image.new("RGB", (width, TITLE + sum(_height(row) + TITLE for row in fitted) + height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    top = TITLE
    for row in fitted:
        for column, (title, picture) in enumerate(row):
            left = GAP + column * (WIDTH + GAP)
            draw.text((left, top - 5), title, fill="black", font=font, anchor="ls")
            canvas.paste(picture, (left, top))
        top += _height(row) + TITLE
    if key is not None:
        canvas.paste(Image.fromarray(key), (0, top - TITLE // 2))
    return np.asarray(canvas)


def _height(row: list[tuple[str, Image.Image]]) -> int:
    return max(picture.height for _, picture in row)


def _fitted(picture: Image.Image) -> Image.Image:
    """``picture`` at `WIDTH`, without new colours: classes must stay apart."""
    return picture.resize((WIDTH, max(1, round(WIDTH * picture.height / picture.width))), Image.Resampling.NEAREST)
