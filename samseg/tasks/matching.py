"""Objects found and objects there: which are one, and the figures of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from samseg.common.errors import InputError
from samseg.common.text_table import text_table
from samseg.tasks.sections import Table

IOU = 0.5  # at least, of a found and a true object that are one: as SpaceNet scores buildings, and COCO's AP50
OBJECTS = "object_scores"  # among the figures of a split


@dataclass(frozen=True)
class Matches:
    """How well objects were found, counted over one image or many: `Matches` add up.

    Attributes:
        found: objects that match a true one.
        wrong: objects that match none.
        missed: true objects that nothing matches.
        iou: sum of the IoUs of the matches.
    """

    found: int = 0
    wrong: int = 0
    missed: int = 0
    iou: float = 0.0

    def __add__(self, other: "Matches") -> "Matches":
        return Matches(
            self.found + other.found, self.wrong + other.wrong, self.missed + other.missed, self.iou + other.iou
        )

    @property
    def ap(self) -> float | None:
        """Average precision at the threshold, as it is counted for cells: found / (found + wrong + missed)."""
        total = self.found + self.wrong + self.missed
        return self.found / total if total else None

    @property
    def mean_iou(self) -> float | None:
        """Of the matched objects."""
        return self.iou / self.found if self.found else None

    def figures(self) -> dict[str, float | None]:
        """How many are true, missed and false, and the scores (None where there is nothing)."""
        found, wrong, missed = self.found, self.wrong, self.missed
        return {
            "true": found, "missed": missed, "false": wrong,
            "precision": found / (found + wrong) if found + wrong else None,
            "recall": found / (found + missed) if found + missed else None,
            "f1": 2 * found / (2 * found + missed + wrong) if found + missed + wrong else None,
            "ap": self.ap, "mean_iou": self.mean_iou,
        }  # fmt: skip


def match(found: np.ndarray, true: np.ndarray, threshold: float = IOU) -> Matches:
    """Compare two object maps (H, W), 0 for none; see `partners`."""
    chosen, objects, truths = _paired(found, true, threshold)
    ious = [iou for _, iou in chosen.values()]
    return Matches(len(ious), objects - len(ious), truths - len(ious), float(sum(ious)))


def partners(found: np.ndarray, true: np.ndarray, threshold: float = IOU) -> dict[int, tuple[int, float]]:
    """The objects of a map (H, W) that are one with an object of another, 0 for none: number -> (its number, IoU).

    Two are one where their IoU is ``threshold`` or more. Objects of a map do not overlap, so above a half each has one
    partner at most; of several with exactly a half each has the first that is free.

    Args:
        threshold: at least 0.5.
    """
    return _paired(found, true, threshold)[0]


def _paired(found: np.ndarray, true: np.ndarray, threshold: float) -> tuple[dict[int, tuple[int, float]], int, int]:
    """`partners`, and how many objects each map holds."""
    (mine, at), (theirs, there) = (np.unique(numbers, return_inverse=True) for numbers in (found, true))
    of_mine, of_theirs = np.bincount(at.ravel()), np.bincount(there.ravel())
    pairs, overlap = np.unique(at.ravel() * np.int64(len(theirs)) + there.ravel(), return_counts=True)
    one, other = np.divmod(pairs, len(theirs))
    ious = overlap / (of_mine[one] + of_theirs[other] - overlap)
    chosen: dict[int, tuple[int, float]] = {}
    taken = set()
    for index in np.argsort(-ious, kind="stable"):
        a, b, iou = int(mine[one[index]]), int(theirs[other[index]]), float(ious[index])
        if iou < threshold:
            break
        if a and b and a not in chosen and b not in taken:
            chosen[a] = (b, iou)
            taken.add(b)
    return chosen, len(mine[mine != 0]), len(theirs[theirs != 0])


def not_told_apart(why: str) -> InputError:
    """What is raised where ``--objects`` is asked for and the labels know no objects; ``why``, and the way out."""
    return InputError(f"--objects compares with objects that labels tell apart, and {why}")


def section(scores: dict[str, Any]) -> Table:
    """Figures for people, of ``scores``: the ``way`` that objects were found, and `Matches.figures` by ``classes``."""
    keys = {"precision": "precision", "recall": "recall", "f1": "F1", "ap": "AP", "mean_iou": "mean IoU"}
    counts = ("true", "missed", "false")
    rows = []
    for name, row in scores["classes"].items():
        cells = ["-" if row[key] is None else f"{row[key]:.3f}" for key in keys]
        rows.append([name, *cells, *(str(row[key]) for key in counts)])
    note = "AP is true / (true + missed + false); the mean IoU is of the true objects."
    return Table(f"Objects ({scores['way']}) at IoU {IOU}", ["class", *keys.values(), *counts], rows, note)


def table(scores: dict[str, Any]) -> str:
    """`section` as text."""
    shown = section(scores)
    return text_table([[shown.title[0].lower() + shown.title[1:], *shown.head[1:]], *shown.rows])
