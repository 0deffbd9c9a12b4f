"""The look at every file of a data set before the first step, and the table of what it holds."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from samseg.data.classes import IGNORE_INDEX, ClassMap, parse_classes
from samseg.data.config import DataConfig
from samseg.data.sources.folders import Pair, find_pairs, read_pair
from samseg.errors import InputError

THREADS = min(4, os.cpu_count() or 1)  # PIL decodes without Python's lock, so threads do; few, as maps can be large
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
class _Found:
    """What one pair holds: pixels by class index (256 counts) and the digest of its image file."""

    pixels: np.ndarray
    digest: bytes


def check_dataset(root: str | Path, splits: Iterable[str], data_config: DataConfig) -> Report:
    """Read every pair of ``splits`` and count its pixels, with a progress bar.

    All files are read before anything is raised, so that all can be mended at once. Raises InputError, one line: the
    first problem in full and the names of more.
    """
    classes = parse_classes(data_config.classes, data_config.ignore)
    problems: list[InputError] = []
    pairs: dict[str, list[Pair]] = {}
    for split in splits:
        try:
            pairs[split] = find_pairs(root, split)
        except InputError as error:
            problems.append(error)
    everything = [(split, pair) for split, found in pairs.items() for pair in found]
    pool = ThreadPoolExecutor(THREADS)
    try:
        results = pool.map(lambda item: _look(item[1], classes), everything)
        found = list(tqdm(results, "checking data", len(everything), unit="image", leave=False, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt shall not wait for the rest
    problems += [result for result in found if isinstance(result, InputError)]
    if problems:
        raise InputError(_one_line(problems))
    looked = {split: [f for (of, _), f in zip(everything, found, strict=True) if of == split] for split in pairs}
    report = Report(classes.names, {split: _add_up(results, len(classes.names)) for split, results in looked.items()})
    report.warnings = _missing(report) + _leaks(everything, found)
    return report


def balanced_weights(pixels: list[int]) -> list[float]:
    """Class weights inverse to the number of pixels: all pixels / (classes present * pixels of the class).

    As scikit-learn's "balanced": every class weighs the same in total, and the mean weight of a pixel is 1. A class
    without a pixel has weight 0: nothing can be learnt about it.
    """
    present = sum(count > 0 for count in pixels)
    return [sum(pixels) / (present * count) if count else 0.0 for count in pixels]


def _look(pair: Pair, classes: ClassMap) -> _Found | InputError:
    try:
        _, mask = read_pair(pair, classes)
        # In parts, because bincount makes 8 bytes of each pixel.
        pixels = sum(np.bincount(rows.ravel(), minlength=256) for rows in np.array_split(mask, 1 + mask.size // 2**24))
        return _Found(pixels, hashlib.sha1(pair.image.read_bytes()).digest())
    except InputError as error:
        return error


def _add_up(found: list[_Found], classes: int) -> SplitReport:
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


def _leaks(everything: list[tuple[str, Pair]], found: list[_Found]) -> list[str]:
    """One warning for each two splits that share image files."""
    first: dict[bytes, tuple[str, Pair]] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for (split, pair), one in zip(everything, found, strict=True):
        other, twin = first.setdefault(one.digest, (split, pair))
        if other != split:
            shared.setdefault((other, split), []).append(f"{twin.image.name} = {pair.image.name}")
    return [
        f"{other} and {split} share {len(twins)} image(s), so the scores of one flatter: {', '.join(twins[:3])}"
        + (" ..." if len(twins) > 3 else "")
        for (other, split), twins in shared.items()
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"
