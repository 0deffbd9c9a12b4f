"""The look at every file of a data set before the first step, and the table of what it holds."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig, open_source
from samseg.data.dataset import read_pair, without_data
from samseg.data.preprocess import check_pixels, valid_pixels
from samseg.data.sources import Source
from samseg.data.target import ClassTarget, class_target
from samseg.errors import InputError
from samseg.files import READERS

T = TypeVar("T")
NAMED = 5  # so many further problems are told


@dataclass
class SplitReport:
    """Counts over one split; the lists have an entry a class."""

    images: int
    pixels: list[int]
    occurs: list[int]  # images that hold the class
    ignored: int  # pixels


@dataclass
class Report:
    """What a data set holds; ``print(report)`` shows the table of class shares by split, and what looks wrong."""

    classes: list[str]
    splits: dict[str, SplitReport]
    contents: dict[str, str]  # "SPLIT/NAME": a digest of the image and its classes
    warnings: list[str] = field(default_factory=list)

    def class_pixels(self, split: str) -> list[int]:
        """Pixels of each class in ``split``."""
        return self.splits[split].pixels

    def images(self, split: str) -> int:
        return self.splits[split].images

    def __str__(self) -> str:
        rows = [["share of pixels (in images)", *self.splits]]
        for index, name in enumerate(self.classes):
            cells = [f"{_share(s.pixels[index], sum(s.pixels))} ({s.occurs[index]})" for s in self.splits.values()]
            rows.append([name, *cells])
        rows.append(["ignored, of all", *(_share(s.ignored, s.ignored + sum(s.pixels)) for s in self.splits.values())])
        rows.append(["images", *(str(s.images) for s in self.splits.values())])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            for row in rows
        ]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


@dataclass
class Found:
    """What one image and its label hold.

    Attributes:
        name: the image's in its source.
        file: the image's.
        digest: of the image.
        content: digest of the image and its classes.
        kind: how many bands of which dtype, as text.
        pixels: counts by class index, 256 of them.
    """

    name: str
    file: str
    digest: str
    content: str
    kind: str
    pixels: np.ndarray


def check_dataset(data: DataConfig, splits: Iterable[str]) -> Report:
    """Read every image and label of ``splits`` and count pixels by class, with a progress bar.

    Raises InputError, one line, as `look_at_all`, and for images that are not of one kind where ``data.scale`` is for
    one.
    """
    targets: dict[str, ClassTarget] = {}
    notes: list[str] = []

    def opened(split: str) -> Source:
        source = open_source(data, split)
        targets[split] = class_target(data, source)
        notes.extend(source.notes)
        return source

    def look(source: Source, name: str) -> Found:
        file = source.image_file(name)
        image, mask = read_pair(source, targets[source.split], name)
        check_pixels(image.pixels, data, file)
        mask = without_data(mask, valid_pixels(image, data, file), IGNORE_INDEX)
        # In parts, because bincount makes 8 bytes of each pixel.
        pixels = sum(np.bincount(rows.ravel(), minlength=256) for rows in np.array_split(mask, 1 + mask.size // 2**24))
        bands = len(image.pixels)
        kind = f"{bands} band{'s' if bands > 1 else ''} of {image.pixels.dtype}"
        digest = source.digest(name)
        content = hashlib.sha256(digest.encode() + mask.tobytes()).hexdigest()[:32]
        return Found(name, str(file), digest, content, kind, pixels)

    found = look_at_all(splits, opened, look)
    if data.scale is not None:
        _check_kinds([one for some in found.values() for one in some])
    classes = list(data.classes)
    contents = {f"{split}/{one.name}": one.content for split, some in found.items() for one in some}
    report = Report(classes, {split: _add_up(some, len(classes)) for split, some in found.items()}, contents)
    if "train" in found and not any(report.class_pixels("train")):
        raise InputError("every pixel of train is ignored, so there is nothing to learn: see data.classes, data.ignore")
    report.warnings = notes + _missing(report) + _leaks(found)
    return report


def look_at_all(
    splits: Iterable[str], opened: Callable[[str], Source], look: Callable[[Source, str], T]
) -> dict[str, list[T]]:
    """What ``look`` gives for each image of each split, by split.

    All are looked at before anything is raised, so that all can be mended at once. Raises InputError, one line: the
    first problem in full and the names of more.
    """
    problems: list[InputError] = []
    sources: dict[str, Source] = {}
    for split in splits:
        try:
            sources[split] = opened(split)
        except InputError as error:
            problems.append(error)
    items = [(source, name) for source in sources.values() for name in source.names]

    def attempt(item: tuple[Source, str]) -> T | InputError:
        try:
            item[0].check(item[1])
            return look(*item)
        except InputError as error:
            return error

    pool = ThreadPoolExecutor(READERS)  # few, as maps can be large
    try:
        found = list(
            tqdm(pool.map(attempt, items), "checking data", len(items), unit="image", leave=False, disable=None)
        )
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt shall not wait for the rest
    problems += [result for result in found if isinstance(result, InputError)]
    if problems:
        raise InputError(_one_line(problems))
    return {
        split: [result for (source, _), result in zip(items, found, strict=True) if source.split == split]
        for split in sources
    }


def balanced_weights(pixels: list[int]) -> list[float]:
    """Class weights inverse to the number of pixels: all pixels / (classes present * pixels of the class).

    As scikit-learn's "balanced": every class weighs the same in total, and the mean weight of a pixel is 1. A class
    without a pixel has weight 0: nothing can be learnt about it.
    """
    present = sum(count > 0 for count in pixels)
    return [sum(pixels) / (present * count) if count else 0.0 for count in pixels]


def _add_up(found: list[Found], classes: int) -> SplitReport:
    counts = np.array([one.pixels for one in found])  # (images, 256)
    total = counts.sum(0)
    return SplitReport(
        images=len(found),
        pixels=total[:classes].tolist(),
        occurs=(counts[:, :classes] > 0).sum(0).tolist(),
        ignored=int(total[IGNORE_INDEX]),
    )


def _one_line(problems: list[InputError]) -> str:
    if len(problems) == 1:
        return str(problems[0])
    further = " | ".join(str(problem).partition(";")[0] for problem in problems[1 : 1 + NAMED])
    rest = f" | and {len(problems) - 1 - NAMED} more" if len(problems) > 1 + NAMED else ""
    return f"{problems[0]} (and {len(problems) - 1} more: {further}{rest})"


def _missing(report: Report) -> list[str]:
    if "train" not in report.splits:
        return []
    pixels = report.class_pixels("train")
    return [
        f"class {name} never occurs in train, so it cannot be learnt"
        for name, count in zip(report.classes, pixels, strict=True)
        if not count
    ]


def _leaks(found: dict[str, list[Found]]) -> list[str]:
    """One warning for each two splits that share images."""
    first: dict[str, tuple[str, Found]] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for split, some in found.items():
        for one in some:
            other, twin = first.setdefault(one.digest, (split, one))
            if other != split:
                shared.setdefault((other, split), []).append(f"{Path(twin.file).name} = {Path(one.file).name}")
    return [
        f"{other} and {split} share {len(twins)} image(s), so the scores of one flatter: {', '.join(twins[:3])}"
        + (" ..." if len(twins) > 3 else "")
        for (other, split), twins in shared.items()
    ]


def _check_kinds(found: list[Found]) -> None:
    """One scale is for images of one kind: in others the same values mean something else."""
    for one in found:
        if one.kind != found[0].kind:
            raise InputError(
                f"{one.file} has {one.kind}, but {found[0].file} has {found[0].kind}: data.scale is for images of one "
                "kind; convert them"
            )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"
