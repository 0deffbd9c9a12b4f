"""Segmentation metrics, counted over the pixels of a whole split and never averaged over batches or images."""

import numpy as np
import torch
from torch import Tensor

from samseg.data.classes import IGNORE_INDEX
from samseg.tasks.boundary import boundary_counts
from samseg.tasks.task import Details, Figures, Metrics, from_all_processes, interleaved

BINS = 15  # of the confidence, for the calibration (Guo et al., 2017)


class SegmentationMetrics(Metrics):
    """Counts class against class on the model's device; `compute` turns the counts into figures.

    On several processes each counts its own images, and `compute` adds the counts up (torchmetrics does).

    Attributes:
        images: by image of this process, its name and what `details` gives for it.
        calibration: (BINS, 3): pixels whose likeliest class has a probability in the bin, the sum of these
            probabilities, and how many of the pixels are right.
    """

    def __init__(self, class_names: list[str]):
        from torchmetrics.classification import MulticlassConfusionMatrix  # seconds to import, and few commands count

        super().__init__()
        self.class_names = list(class_names)
        self.confusion = MulticlassConfusionMatrix(
            len(self.class_names), ignore_index=IGNORE_INDEX, validate_args=False
        )
        self.images: list[tuple[str, np.ndarray, np.ndarray]] = []
        self.calibration = np.zeros((BINS, 3))

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Count ``prediction`` against ``mask``, class indices of one shape, where ``mask`` is not 255."""
        self.confusion.update(prediction.flatten(), mask.flatten())

    def count_confidence(self, logits: Tensor, mask: Tensor) -> None:
        """Count how sure the ``logits`` (C, H, W) are, and whether they are right, where ``mask`` (H, W) is not 255."""
        top, prediction = logits.float().max(dim=0)
        confidence = (top - logits.float().logsumexp(dim=0)).exp().clamp(max=1)
        counts = mask != IGNORE_INDEX
        # Added up on the CPU: Apple's GPUs have no float64, others add in no fixed order.
        confidence, right = confidence[counts].cpu(), (prediction == mask)[counts].cpu()
        bins = (confidence * BINS).long().clamp(max=BINS - 1)
        for column, weight in enumerate((None, confidence.double(), right.double())):
            self.calibration[:, column] += torch.bincount(bins, weight, minlength=BINS).numpy()

    def count_image(self, name: str, prediction: np.ndarray, mask: np.ndarray) -> None:
        """Keep the counts of one whole image for `details`: class indices (H, W), with 255 in ``mask`` for ignored."""
        classes = len(self.class_names)
        truth, found = mask[mask != IGNORE_INDEX], prediction[mask != IGNORE_INDEX]
        pixels = [np.bincount(labels, minlength=classes) for labels in (truth[truth == found], truth, found)]
        self.images.append((name, np.stack(pixels, axis=1), boundary_counts(prediction, mask, classes)))

    def details(self) -> Details:
        """Counts by image, in the order of the data set, for N images and C classes.

        ``names`` (N,); ``pixels`` (N, C, 3): right, true and predicted; ``borders`` (N, C, 4), see `boundary_counts`;
        ``confusion`` (C, C): truth against prediction; ``calibration`` (BINS, 3).
        """
        shares = from_all_processes((self.images, self.calibration))
        order = interleaved([images for images, _ in shares])
        classes = len(self.class_names)
        return {
            "names": np.array([name for name, _, _ in order], dtype=str),
            "pixels": np.array([pixels for _, pixels, _ in order]).reshape(-1, classes, 3),
            "borders": np.array([borders for _, _, borders in order]).reshape(-1, classes, 4),
            "confusion": self.confusion.compute().cpu().numpy(),
            "calibration": sum(calibration for _, calibration in shares),
        }

    def compute(self) -> Figures:
        """``miou``, ``accuracy`` (of all pixels), and by class name ``iou``, ``f1`` (Dice), ``class_accuracy`` (recall)
        and ``share`` (of the true pixels).

        A figure that does not exist is None: IoU and F1 of a class in neither truth nor prediction, the accuracy of a
        class that is not in the truth. ``miou`` is the mean over the classes that have an IoU. The figures follow
        torchmetrics' confusion matrix because its ready-made scores count an absent class as 0.
        """
        counts = self.confusion.compute().cpu().double()  # (truth, prediction)
        hit, truth, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        iou = hit / (truth + predicted - hit)  # 0 / 0 is NaN: the class is absent
        return {
            "miou": _number(iou.nanmean()),
            "accuracy": _number(hit.sum() / truth.sum()),
            "iou": self._by_name(iou),
            "f1": self._by_name(2 * hit / (truth + predicted)),
            "class_accuracy": self._by_name(hit / truth),
            "share": self._by_name(truth / truth.sum()),
        }

    def _by_name(self, values: Tensor) -> dict[str, float | None]:
        return {name: _number(value) for name, value in zip(self.class_names, values, strict=True)}


def _number(value: Tensor) -> float | None:
    return None if torch.isnan(value) else value.item()


def table(metrics: Figures) -> str:
    """The figures of `SegmentationMetrics.compute` as text: a line per class and one for all."""
    width = max(len(name) for name in [*metrics["iou"], "mean / all"])
    lines = [f"{'class':<{width}}  {'IoU':>6}  {'F1':>6}  {'acc.':>6}  {'pixels':>7}"]
    for name in metrics["iou"]:
        figures = "  ".join(_cell(metrics[key][name]) for key in ("iou", "f1", "class_accuracy"))
        lines.append(f"{name:<{width}}  {figures}  {_percent(metrics['share'][name])}")
    f1 = [value for value in metrics["f1"].values() if value is not None]
    mean_f1 = sum(f1) / len(f1) if f1 else None
    figures = "  ".join(_cell(value) for value in (metrics["miou"], mean_f1, metrics["accuracy"]))
    lines.append(f"{'mean / all':<{width}}  {figures}  {_percent(1.0)}")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return f"{'-':>6}" if value is None else f"{value:6.4f}"


def _percent(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{100 * value:6.2f}%"
