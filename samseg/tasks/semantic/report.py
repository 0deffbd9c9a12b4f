"""Reports of semantic segmentation: classes with how sure their figures are, borders, calibration, examples."""

from collections.abc import Callable, Iterable

import numpy as np
from torch import nn

from samseg.data.check import Report
from samseg.data.classes import IGNORE_INDEX
from samseg.data.dataset import SegmentationDataset
from samseg.predict.draw import coloured, palette
from samseg.tasks.bootstrap import BOOTSTRAP, draws, interval, with_bounds
from samseg.tasks.boundary import TOLERANCE_PX, boundary_f1
from samseg.tasks.sections import Chart, Gallery, Matrix, Picture, Section, Table, encoded
from samseg.tasks.task import Details, Figures, Reporter, Task

# (network, data set, index) -> name, image (H, W, 3) uint8, truth (H, W) with 255 for ignored, prediction (H, W)
PicturesOf = Callable[[nn.Module, SegmentationDataset, int], tuple[str, np.ndarray, np.ndarray, np.ndarray]]
SHOWN = 3  # images each: best, median, worst


class SemanticReporter(Reporter):
    """Reads `SegmentationMetrics.details`."""

    def __init__(self, task: Task, classes: list[str], pictures_of: PicturesOf):
        """``pictures_of`` gives the pictures of an item of a data set by index."""
        super().__init__(task)
        self.classes, self.pictures_of = classes, pictures_of

    def data(self, report: Report) -> Table:
        head = ["class", *(f"{split}: pixels (images)" for split in report.splits)]
        return Table("Data", head, report.rows(), "; ".join(report.warnings))

    def examples(self, model: nn.Module, dataset: SegmentationDataset, details: Details) -> Gallery:
        scores = image_scores(details["pixels"])
        rows = []
        for title, index in chosen(scores):
            name, image, truth, prediction = self.pictures_of(model, dataset, index)
            pictures = [
                encoded("image", image, photo=True),
                encoded("truth", coloured(truth), photo=False),
                encoded("prediction", coloured(prediction), photo=False),
                encoded("errors in red", errors(image, truth, prediction), photo=True),
            ]
            rows.append((f"{title}: {name}, mean IoU {scores[index]:.3f}", pictures))
        colours = dict(zip(self.classes, palette(len(self.classes)), strict=True))
        note = "by the mean IoU of each image over its classes; grey in the truth is ignored"
        return Gallery("Best, median and worst images", rows, colours | {"ignored": (128, 128, 128)}, note)

    def results(self, figures: Figures, details: Details) -> list[Section]:
        pixels, borders = details["pixels"], details["borders"]
        by_draw = draws(len(pixels))
        samples = scores(_drawn(by_draw, pixels))
        now, edges = scores(pixels.sum(0)), boundary_f1(borders.sum(0))
        edge_samples = boundary_f1(_drawn(by_draw, borders))
        rows = []
        for index, name in enumerate(self.classes):
            cells = [_figure(now[key][index], samples[key][:, index]) for key in ("iou", "f1", "recall", "precision")]
            share = pixels[:, index, 1].sum() / max(1, pixels[:, :, 1].sum())
            rows.append([name, f"{100 * share:.2f} %", *cells, _figure(edges[index], edge_samples[:, index])])
        means = [_figure(_mean(now[key]), _mean(samples[key])) for key in ("iou", "f1", "recall", "precision")]
        rows.append(["mean", "", *means, _figure(_mean(edges), _mean(edge_samples))])
        head = ["class", "pixels", "IoU", "F1 (Dice)", "recall", "precision", f"boundary F1 ({TOLERANCE_PX} px)"]
        accuracy = _figure(now["accuracy"], samples["accuracy"])
        note = f"{BOOTSTRAP}; {len(pixels)} images. Pixel accuracy {accuracy}."
        if figures.get("tta"):
            note += f" Averaged over flips and turns (--tta {figures['tta']})."
        return [
            Table("Classes", head, rows, note),
            Matrix("Confusion", self.classes, details["confusion"], "truth", "prediction"),
            _calibration(details["calibration"]),
        ]

    def score_draws(self, details: Details) -> np.ndarray:
        pixels = details["pixels"][np.argsort(details["names"])]
        return _mean(scores(_drawn(draws(len(pixels)), pixels))["iou"])

    def side_by_side(
        self, networks: Iterable[tuple[str, Task, nn.Module]], split: str, runs: dict[str, Details]
    ) -> Gallery:
        by_image = np.stack([image_scores(details["pixels"]) for details in runs.values()])  # (runs, images)
        gaps = np.nan_to_num(by_image.max(0) - by_image.min(0), nan=-1.0)
        picked = {int(index): "they differ most" for index in np.argsort(-gaps, kind="stable")[:SHOWN]}
        for title, index in chosen(by_image[0]):
            if title not in picked.values():
                picked.setdefault(index, title)
        pictures: dict[int, list[Picture]] = {index: [] for index in picked}
        names = {}
        for number, (run, task, model) in enumerate(networks):
            dataset, pictures_of = task.dataset(split, train=False, seed=0), task.reporter().pictures_of
            for index in picked:
                names[index], image, truth, prediction = pictures_of(model, dataset, index)
                if not pictures[index]:
                    pictures[index] += [
                        encoded("image", image, photo=True),
                        encoded("truth", coloured(truth), photo=False),
                    ]
                title = f"{run}: {by_image[number, index]:.3f}"
                pictures[index].append(encoded(title, coloured(prediction), photo=False))
        colours = dict(zip(self.classes, palette(len(self.classes)), strict=True)) | {"ignored": (128, 128, 128)}
        rows = [(f"{title}: {names[index]}", pictures[index]) for index, title in picked.items()]
        return Gallery("The same images", rows, colours, "with the mean IoU of each image over its classes")

    def comparison(self, runs: dict[str, Details]) -> list[Section]:
        common = set.intersection(*(set(details["names"]) for details in runs.values()))
        by_draw = draws(len(common))
        now, drawn = {}, {}  # IoU by run: (classes and their mean,) and (RESAMPLES, classes and their mean)
        for run, details in runs.items():
            order = [i for i in np.argsort(details["names"]) if details["names"][i] in common]
            pixels = details["pixels"][order]
            now[run] = _with_mean(scores(pixels.sum(0))["iou"])
            drawn[run] = _with_mean(scores(_drawn(by_draw, pixels))["iou"])
        first, *others = runs
        labels = [*self.classes, "mean"]
        rows = [[label, *(_figure(now[run][i], drawn[run][:, i]) for run in runs)] for i, label in enumerate(labels)]
        images = f"the {len(common)} images that all of them have"
        sections: list[Section] = [Table("IoU", ["class", *runs], rows, f"{BOOTSTRAP}; {images}.")]
        for run in others:
            change, changes = now[run] - now[first], drawn[run] - drawn[first]
            rows = [
                [name, _figure(change[i], changes[:, i], "+.3f"), _won(changes[:, i])] for i, name in enumerate(labels)
            ]
            note = (
                "Every draw of images is the same for both: an interval without 0 is a difference that the choice of "
                "images does not explain."
            )
            head = ["class", "difference of IoU", "draws won"]
            sections.append(Table(f"{run} against {first}", head, rows, note))
        return sections


def scores(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """IoU, F1, recall and precision (..., C) and accuracy (...) of counts (..., C, 3); NaN where there is none."""
    hit, truth, found = np.moveaxis(np.asarray(pixels, float), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "iou": hit / (truth + found - hit),
            "f1": 2 * hit / (truth + found),
            "recall": hit / truth,
            "precision": hit / found,
            "accuracy": hit.sum(-1) / truth.sum(-1),
        }


def image_scores(pixels: np.ndarray) -> np.ndarray:
    """The mean IoU (N,) of each image over the classes that are in its truth or prediction; NaN: all is ignored."""
    return _mean(scores(pixels)["iou"])


def chosen(scores: np.ndarray) -> list[tuple[str, int]]:
    """Which images are shown, and as what: `SHOWN` best, around the median and worst, each once."""
    order = [int(index) for index in np.argsort(-scores) if not np.isnan(scores[index])]
    middle = max(0, len(order) // 2 - SHOWN // 2)
    groups = {"best": order[:SHOWN], "worst": order[-SHOWN:], "median": order[middle : middle + SHOWN]}
    taken: dict[int, str] = {}
    for title, indices in groups.items():
        for index in indices:
            taken.setdefault(index, title)
    return [(title, index) for title in ("best", "median", "worst") for index in order if taken.get(index) == title]


def errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The image in pale grey, (H, W, 3) uint8, with wrong pixels red."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.5 + 110
    grey[(truth != prediction) & (truth != IGNORE_INDEX)] = (215, 20, 60)
    return grey.clip(0, 255).astype(np.uint8)


def _calibration(counts: np.ndarray) -> Chart:
    """The reliability diagram, with the expected calibration error: the mean gap, weighted by pixels."""
    pixels, sure, right = counts.T
    total = max(1, pixels.sum())
    gap = np.abs(sure - right).sum() / total
    points = [(s / p, r / p) for p, s, r in zip(pixels, sure, right, strict=True) if p]
    over = "overconfident" if sure.sum() > right.sum() else "underconfident"
    note = (
        f"Expected calibration error {100 * gap:.1f} % ({len(counts)} bins): the model is {over}, mean confidence "
        f"{sure.sum() / total:.3f}, accuracy {right.sum() / total:.3f}. On the diagonal a probability says what it is."
    )
    return Chart("Calibration", "confidence", "accuracy", {"accuracy": points}, unit=True, diagonal=True, note=note)


def _drawn(by_draw: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Counts (N, ...) added up for each draw: (RESAMPLES, ...)."""
    return np.tensordot(by_draw.astype(float), counts.astype(float), axes=1)


def _with_mean(values: np.ndarray) -> np.ndarray:
    """Values (..., C) and, behind them, their mean: (..., C + 1)."""
    return np.concatenate([values, _mean(values)[..., None]], axis=-1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the last axis, of what exists."""
    values = np.asarray(values, float)
    exists = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(exists, values, 0).sum(-1) / exists.sum(-1)


def _figure(value: float, samples: np.ndarray, style: str = ".3f") -> str:
    """A figure with the bounds of its samples, or "-" for what does not exist."""
    return "-" if np.isnan(value) else with_bounds(value, interval(samples), style)


def _won(changes: np.ndarray) -> str:
    changes = changes[~np.isnan(changes)]
    return f"{100 * (changes > 0).mean():.1f} %" if len(changes) else "-"
