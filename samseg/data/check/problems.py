"""All that is wrong with a data set, found at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.common.files import READERS
from samseg.data.config import DataConfig, open_source
from samseg.data.sources import Source
from samseg.data.sources.files import counted

T = TypeVar("T")
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
