"""Pictures of what is wrong with a data set."""

import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from samseg.common.errors import InputError
from samseg.data.check import Problem
from samseg.data.classes import UNKNOWN
from samseg.data.config import DataConfig, open_source
from samseg.data.preprocess import Preprocessing
from samseg.data.raster import as_picture
from samseg.data.sources import Source
from samseg.data.target import class_target
from samseg.predict.draw import RGB, coloured, save_picture
from samseg.tasks.pictures import GAP, WIDTH, Titled, page

MOST = 20  # problems in a picture
HEIGHT, LINE, LETTERS = 280, 20, 54  # px of a panel and of a line of text in it, letters in a line
UNDECLARED: RGB = (255, 0, 255)  # pixels of values that are no class; classes are darkened beside it


def save_problems(data: DataConfig, problems: list[Problem], path: Path) -> bool:
    """Write a row for each of the first problems that an image has: the image, its label and what is wrong.

    False, and nothing is written, where none is of an image: splits have no picture.
    """
    sources: dict[str, Source] = {}
    rows = []
    for problem in [one for one in problems if one.name is not None][:MOST]:
        if problem.split not in sources:
            sources[problem.split] = open_source(data, problem.split)
        source = sources[problem.split]
        line = str(problem.error).replace(f"{data.root}/", "")
        rows.append(
            [_image(source, problem, data.preprocessing), _label(source, problem, data), ("what is wrong", _text(line))]
        )
    if rows:
        save_picture(path, page(rows))
    return bool(rows)


def _image(source: Source, problem: Problem, preprocessing: Preprocessing) -> Titled:
    title = f"{problem.split}: {problem.name}"
    try:
        image = source.image(problem.name)
    except (InputError, KeyError):
        return title, _text("The image cannot be read.")
    try:
        pixels = preprocessing.picture(image)
    except InputError:  # as of values that data.scale is not for
        pixels = as_picture(image)
    return _sized(title, pixels), _panel(pixels)


def _label(source: Source, problem: Problem, data: DataConfig) -> Titled:
    """In the colours of the classes, darkened, and `UNDECLARED`; objects where there are no classes."""
    title = "its label"
    try:
        if not data.classes:
            objects = source.instances(problem.name)
            if objects is None:
                return title, _text("There are no objects.")
            pixels = coloured(np.where(objects > 0, 1 + objects % 254, 0))
        else:
            classes = class_target(data, source).classes
            found = classes.indices(source.label(problem.name, colours=classes.colours), "")
            pixels = coloured(found.clip(min=0)) // 2
            pixels[found == UNKNOWN] = UNDECLARED
    except (InputError, KeyError):
        return title, _text("There is no label that could be drawn.")
    return _sized(title, pixels), _panel(pixels)


def _sized(title: str, pixels: np.ndarray) -> str:
    size = f", {pixels.shape[1]} x {pixels.shape[0]}"
    return textwrap.shorten(title, LETTERS - len(size), placeholder=" ...") + size


def _panel(pixels: np.ndarray) -> np.ndarray:
    """Shrunk or enlarged into the middle of a white panel, without new colours."""
    scale = min(WIDTH / pixels.shape[1], HEIGHT / pixels.shape[0])
    size = tuple(max(1, round(scale * length)) for length in pixels.shape[1::-1])
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    fitted = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)
    panel.paste(fitted, ((WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2))
    return np.asarray(panel)


def _text(line: str) -> np.ndarray:
    panel = Image.new("RGB", (WIDTH, HEIGHT), (240, 240, 240))
    lines = textwrap.wrap(line, LETTERS)[: HEIGHT // LINE - 1]
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(size=14)
    for number, text in enumerate(lines):
        draw.text((GAP, GAP + number * LINE), text, fill="black", font=font)
    return np.asarray(panel)
