"""The figures of a promptable model: means over the objects of a split."""

import numpy as np
import torch
from torch import Tensor

from samseg.tasks.metrics import SegmentationMetrics
from samseg.tasks.metrics import table as class_table
from samseg.tasks.promptable.clicks import CLICKS, ENOUGH
from samseg.tasks.task import Details, Figures, Metrics, from_all_processes, interleaved

SHOWN = (1, 3, 5, CLICKS)  # clicks after which the IoU is told


class PromptMetrics(Metrics):
    """Adds up objects' scores, those of SAM as it came beside them, and counts classes where there are class tokens.

    Args:
        classes: names, if the model answers without prompts.
    """

    def __init__(self, classes: list[str] | None):
        super().__init__()
        self.after, self.before, self.shapes = _Sums(CLICKS + 4), _Sums(CLICKS + 4), _Sums(2)
        self.classes = None if classes is None else SegmentationMetrics(classes)
        self.images: list[tuple[str, float, int]] = []  # of this process: name, and what `details` gives for it

    def count_image(self, name: str, rows: Tensor) -> None:
        """Add up the scores of an image's objects, rows of `samseg.tasks.promptable.clicks.object_scores`."""
        self.after.update(rows)
        self.images.append((name, rows[:, [0, *SHOWN]].double().mean(1).sum().item(), len(rows)))

    def details(self) -> Details:
        """By image, in the order of the data set: ``names`` (N,), and ``objects`` (N, 2): the sum of their IoU, and how
        many they are."""
        order = interleaved(from_all_processes(self.images))
        return {
            "names": np.array([name for name, *_ in order], dtype=str),
            "objects": np.array([counts for _, *counts in order], dtype=float).reshape(-1, 2),
        }

    def compute(self) -> Figures:
        """``iou``, the mean over `box` and clicks, picks the best; see `_figures`. ``before`` is None without weights.

        ``shapes`` are what the box alone tells: the IoU of the box filled, and of the ellipse in it. ``classes`` are
        those of `SegmentationMetrics`, ``miou`` among them, and None where the model answers to prompts alone.
        """
        after, objects = self.after.means()
        shapes, _ = self.shapes.means()
        classes = None if self.classes is None else self.classes.compute()
        return _figures(after) | {
            "miou": None if classes is None else classes["miou"],
            "objects": objects,
            "before": _figures(before) if (before := self.before.means()[0]) is not None else None,
            "shapes": None if shapes is None else dict(zip(("box", "ellipse"), shapes, strict=True)),
            "classes": classes,
        }


class _Sums:
    """Adds up rows of figures, over all processes."""

    def __init__(self, figures: int):
        self.total, self.rows = torch.zeros(figures, dtype=torch.float64), 0

    def update(self, rows: Tensor) -> None:
        self.total += rows.cpu().sum(0, dtype=torch.float64)
        self.rows += len(rows)

    def means(self) -> tuple[list[float] | None, int]:
        """The mean row, None without rows, and the number of rows; every process has to ask."""
        shares = from_all_processes((self.total, self.rows))
        total, rows = sum(total for total, _ in shares), sum(rows for _, rows in shares)
        return (total / rows).tolist() if rows else None, rows


def _figures(row: list[float] | None) -> Figures:
    """The mean row of `samseg.tasks.promptable.clicks.object_scores` by name."""
    names = ["box", *(f"clicks_{n}" for n in SHOWN)]
    keys = [*names, "clicks_to_enough", "reached", "iou_error"]
    if row is None:
        return dict.fromkeys(["iou", *keys])
    values = [row[0], *(row[n] for n in SHOWN)]
    return {"iou": sum(values) / len(values)} | dict(zip(keys, [*values, *row[-3:]], strict=True))


def table(figures: Figures) -> str:
    """The figures as text: a line for each way of prompting, SAM as it came beside it."""
    names = {
        "box": "IoU from a box",
        "clicks_1": "IoU from one point",
        **{f"clicks_{n}": f"IoU after {n} clicks" for n in SHOWN[1:]},
        "clicks_to_enough": f"clicks to IoU {ENOUGH} (at most {CLICKS})",
        "reached": f"share that reaches IoU {ENOUGH}",
        "iou_error": "error of the predicted IoU",
    }
    width = max(map(len, names.values()))
    before = figures["before"] or {}
    title = f"{figures['objects']} objects"
    lines = [f"{title:<{width}}  {'as it came' if before else '':>10}  {'now':>7}"]
    for key, name in names.items():
        lines.append(f"{name:<{width}}  {_cell(before.get(key)) if before else '':>10}  {_cell(figures[key]):>7}")
    if figures["shapes"] is not None:
        box, ellipse = (_cell(figures["shapes"][shape]) for shape in ("box", "ellipse"))
        lines.append(f"what the box alone tells: the box filled has IoU {box}, the ellipse in it {ellipse}")
    if figures["classes"] is not None:
        lines += ["without prompts:", class_table(figures["classes"])]
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
