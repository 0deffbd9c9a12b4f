"""Check every image of a data set and its classes before the first step: what it holds, and all that is wrong."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.common.files import READERS
from samseg.common.text_table import text_table
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig, open_source
from samseg.data.dataset import read_pair, without_data
from samseg.data.sources import Source
from samseg.data.sources.files import counted
from samseg.data.target import ClassTarget, class_target

T = TypeVar("T")
Size = tuple[int, int]  # (H, W) in pixels
NAMED = 5  # so many further problems are told


class Problem(NamedTuple):
    """What keeps an image, by its ``name`` in the source, from being used; or with None the whole split."""

    split: str
    name: str | None
    error: InputError


class DataProblems(InputError):
    """What is wrong with a data set in one line: the first problem in full, and the names of more. What is said alike
    of several images, such as the windows of a map, is said once.

    Attributes:
        problems: all of them.
        splits: by what is said of them, each once, the splits that it concerns.
        report: of what can be used; None: there is none.
    """

    def __init__(self, problems: list[Problem], report: Any = None):
        splits: dict[str, dict[str, None]] = {}
        for problem in problems:
            splits.setdefault(str(problem.error), {})[problem.split] = None
        first, *others = splits
        if others:
            further = " | ".join(error.partition(";")[0] for error in others[:NAMED])
            rest = f" | and {len(others) - NAMED} more" if len(others) > NAMED else ""
            first = f"{first} (and {len(others)} more: {further}{rest})"
        super().__init__(first)
        self.problems, self.report = problems, report
        self.splits = {error: list(concerned) for error, concerned in splits.items()}


def look_at_all(
    data: DataConfig, splits: Iterable[str], prepare: Callable[[Source], None], look: Callable[[Source, str], T]
) -> tuple[dict[str, list[T]], list[Problem], list[str]]:
    """Call ``look`` for each image; returns its results by split, the problems of images without one, and remarks.

    ``prepare`` is given the source of a split first; its InputError, too, is a problem, and the split is left out.
    """
    problems: list[Problem] = []
    sources: dict[str, Source] = {}
    for split in splits:
        try:
            source = open_source(data, split)
            problems += [Problem(split, name, error) for name, error in source.wrong.items()]
            prepare(source)
            sources[split] = source
        except InputError as error:
            problems.append(Problem(split, None, error))
    items = [(source, name) for source in sources.values() for name in source.names]

    def attempt(item: tuple[Source, str]) -> T | Problem:
        source, name = item
        try:
            source.check(name)
            return look(source, name)
        except InputError as error:
            return Problem(source.split, name, error)

    pool = ThreadPoolExecutor(READERS)  # few, as maps can be large
    try:
        results = list(
            tqdm(pool.map(attempt, items), "checking data", len(items), unit="image", leave=False, disable=None)
        )
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt shall not wait for the rest
    found: dict[str, list[T]] = {split: [] for split in sources}
    remarks: dict[tuple[str, str], list[str]] = {}
    for (source, name), result in zip(items, results, strict=True):
        if isinstance(result, Problem):
            problems.append(result)
            continue
        found[source.split].append(result)
        for what, which in source.remarks(name):
            remarks.setdefault((source.split, what), []).append(which)
    return found, problems, [f"{split}: {counted(which, 'object')} {what}" for (split, what), which in remarks.items()]


@dataclass
class SplitReport:
    """Counts over one split; the lists have an entry a class."""

    images: int
    pixels: list[int]
    occurs: list[int]  # images that hold the class
    ignored: int  # pixels
    sizes: tuple[Size, Size] | None  # of the smallest image and of the largest; None: there are none


@dataclass
class Report:
    """What a data set holds; ``print(report)`` shows the table of class shares by split, and what looks wrong.

    Of a data set of which no split can be read there is no table.
    """

    classes: list[str]
    splits: dict[str, SplitReport]
    contents: dict[str, str]  # "SPLIT/NAME": a digest of the image and its classes
    warnings: list[str] = field(default_factory=list)

    def class_pixels(self, split: str) -> list[int]:
        """Pixels of each class in ``split``."""
        return self.splits[split].pixels

    def images(self, split: str) -> int:
        return self.splits[split].images

    def rows(self) -> list[list[str]]:
        """The table's rows, each its name and a cell for each split."""
        splits = self.splits.values()
        rows = [
            [name, *(f"{_share(s.pixels[index], sum(s.pixels))} ({s.occurs[index]})" for s in splits)]
            for index, name in enumerate(self.classes)
        ]
        rows.append(["ignored, of all", *(_share(s.ignored, s.ignored + sum(s.pixels)) for s in splits)])
        rows.append(["images", *(str(s.images) for s in splits)])
        rows.append(["width x height", *(_sizes(s.sizes) for s in splits)])
        return rows

    def __str__(self) -> str:
        warnings = [f"warning: {warning}" for warning in dict.fromkeys(self.warnings)]  # splits may share a file
        if not self.splits:
            return "\n".join(warnings)
        shares = text_table([["share of pixels (in images)", *self.splits], *self.rows()])
        return "\n".join([shares, *warnings])


@dataclass
class Checked:
    """What one image and its label hold."""

    name: str  # in the source
    file: str
    digest: str
    content: str  # digest of the image and its classes
    kind: str  # how many bands of which dtype
    shape: Size
    pixels: np.ndarray  # counts by class index, 256 of them


def check_dataset(data: DataConfig, splits: Iterable[str]) -> Report:
    """Read every image and label of ``splits`` and count pixels by class, with a progress bar.

    Raises DataProblems once all are read, also for images that are not of one kind where ``data.scale`` is for one.
    """
    preprocessing = data.preprocessing
    targets: dict[str, ClassTarget] = {}
    notes: list[str] = []

    def prepare(source: Source) -> None:
        notes.extend(source.notes)
        targets[source.split] = class_target(data, source)

    def look(source: Source, name: str) -> Checked:
        file = source.image_file(name)
        image, maps = read_pair(source, targets[source.split], name)
        preprocessing.check_pixels(image.pixels, file)
        mask = without_data(maps, preprocessing.valid_pixels(image, file), IGNORE_INDEX)["classes"]
        # In parts, because bincount makes 8 bytes of each pixel.
        pixels = sum(np.bincount(rows.ravel(), minlength=256) for rows in np.array_split(mask, 1 + mask.size // 2**24))
        bands = len(image.pixels)
        kind = f"{bands} band{'s' if bands > 1 else ''} of {image.pixels.dtype}"
        digest = source.digest(name)
        content = hashlib.sha256(digest.encode() + mask.tobytes()).hexdigest()[:32]
        return Checked(name, str(file), digest, content, kind, mask.shape, pixels)

    found, problems, remarks = look_at_all(data, splits, prepare, look)
    if data.scale is not None:
        problems += _odd_kinds(found, "data.scale is for images of one kind; convert them")
    elif data.source == "maps" and data.bands is None:  # photos are looked at in colour, whatever they are
        problems += _odd_kinds(found, "say which are used with data.bands")
    classes = list(data.classes)
    contents = {f"{split}/{one.name}": one.content for split, some in found.items() for one in some}
    report = Report(classes, {split: _add_up(some, len(classes)) for split, some in found.items()}, contents)
    learnt = report.class_pixels("train") if "train" in found else []
    missing = [name for name, count in zip(classes, learnt) if not count]
    report.warnings = notes + remarks
    report.warnings += [f"class {name} never occurs in train, so it cannot be learnt" for name in missing]
    report.warnings += _leaks(found)
    if not problems and "train" in found and not any(learnt):
        learn_nothing = "every pixel of train is ignored, so there is nothing to learn: see data.classes, data.ignore"
        problems.append(Problem("train", None, InputError(learn_nothing)))
    if problems:
        raise DataProblems(problems, report)
    return report


def balanced_weights(pixels: list[int]) -> list[float]:
    """Class weights inverse to the number of pixels: all pixels / (classes present * pixels of the class).

    As scikit-learn's "balanced": every class weighs the same in total, and the mean weight of a pixel is 1. A class
    without a pixel has weight 0: nothing can be learnt about it.
    """
    present = sum(count > 0 for count in pixels)
    return [sum(pixels) / (present * count) if count else 0.0 for count in pixels]


def _add_up(found: list[Checked], classes: int) -> SplitReport:
    counts = np.array([one.pixels for one in found], dtype=np.int64).reshape(-1, 256)  # (images, 256)
    total = counts.sum(0)
    by_area = sorted((one.shape for one in found), key=np.prod)
    return SplitReport(
        images=len(found),
        pixels=total[:classes].tolist(),
        occurs=(counts[:, :classes] > 0).sum(0).tolist(),
        ignored=int(total[IGNORE_INDEX]),
        sizes=(by_area[0], by_area[-1]) if found else None,
    )


def _leaks(found: dict[str, list[Checked]]) -> list[str]:
    """One warning for each two splits that share images."""
    first: dict[str, tuple[str, Checked]] = {}
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


def _odd_kinds(found: dict[str, list[Checked]], mended: str) -> list[Problem]:
    """Images of another kind than the first: in these the same values, or bands, mean something else."""
    all_of_them = [(split, one) for split, some in found.items() for one in some]
    first = all_of_them[0][1] if all_of_them else None
    return [
        Problem(split, one.name, InputError(f"{one.file} has {one.kind}, but {first.file} has {first.kind}: {mended}"))
        for split, one in all_of_them
        if one.kind != first.kind
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


def _sizes(sizes: tuple[Size, Size] | None) -> str:
    """ "64 x 40", or of different images "20 x 30 to 64 x 64"."""
    if sizes is None:
        return "-"
    return " to ".join(dict.fromkeys(f"{width} x {height}" for height, width in sizes))
