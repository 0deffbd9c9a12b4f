"""Semantic segmentation: a class for every pixel."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from samseg.common.errors import ConfigError
from samseg.data.check import Report, check_dataset
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig, open_source
from samseg.data.dataset import SegmentationDataset
from samseg.data.target import check_classes, class_target
from samseg.models.build import Built, build_model
from samseg.models.config import ModelConfig
from samseg.models.smp import check_image_size
from samseg.predict.draw import IGNORED, coloured, legend, overlay
from samseg.predict.rows import likeliest, predict_rows, predicting, whole_rows
from samseg.tasks.losses import LossConfig, SegmentationLoss, complete_loss
from samseg.tasks.metrics import SegmentationMetrics, table
from samseg.tasks.pictures import SAMPLED, page, sample_page, spread
from samseg.tasks.semantic.report import SemanticReporter
from samseg.tasks.task import Figures, Objective, Task

TILES_ON_GPU = 4  # predicted at a time


class SemanticObjective(Objective):
    """`SegmentationLoss` of a batch's masks; a batch weighs what its labelled pixels weigh."""

    def __init__(self, loss: SegmentationLoss):
        super().__init__()
        self.loss = loss

    def weight(self, batch: dict) -> Tensor:
        return self.loss.pixel_weight(batch["classes"])

    def forward(self, outputs: Tensor, batch: dict, weight: Tensor, batches: int) -> Tensor:
        return self.loss(outputs, batch["classes"], weight, batches)


class SemanticTask(Task):
    """Logits (B, C, H, W) from images, or from stored taps; mean IoU picks the best epoch."""

    section = "train.loss"
    score, score_name = "miou", "mIoU"
    columns = {"val_miou": "miou", "val_accuracy": "accuracy"}
    labels = {"val_miou": "mIoU", "val_accuracy": "pixel accuracy"}
    settings: LossConfig

    def __init__(self, data: DataConfig, model: ModelConfig, settings: LossConfig):
        super().__init__(data, model, settings)
        self.classes = list(data.classes)
        self.tta: str | None = None

    @classmethod
    def complete(cls, data: DataConfig, model: ModelConfig, settings: LossConfig) -> None:
        check_classes(data)
        if len(data.classes) == 1:
            [only] = data.classes
            raise ConfigError(
                f"data.classes names {only} alone, and one class is everywhere: name what lies around it, too, such as "
                f"data.classes={{background: 0, {only}: 255}}, with the value that the masks have there"
            )
        complete_loss(settings, list(data.classes))

    def check(self, splits: Iterable[str]) -> Report:
        return check_dataset(self.data, splits)

    def dataset(self, split: str, *, train: bool, seed: int) -> SegmentationDataset:
        source, data = open_source(self.data, split), self.data
        drawn = dict(views=data.views, augment=data.augment)
        return SegmentationDataset(
            source, class_target(data, source), self.preprocessing, train=train, seed=seed, **drawn
        )

    def build_model(self, pretrained: bool = True) -> Built:
        built = build_model(self.model, len(self.classes), pretrained, in_channels=self.preprocessing.channels)
        check_image_size(built.model, self.preprocessing.size)
        return built

    def objective(self, report: Report) -> SemanticObjective:
        return SemanticObjective(SegmentationLoss(self.settings, self.classes, report.class_pixels("train")))

    def inputs(self, batch: dict) -> Tensor | list[Tensor]:
        return batch["taps"] if "taps" in batch else batch["image"]

    def random_batch(self, size: int, device: torch.device) -> dict:
        side = self.preprocessing.size
        return {
            "image": torch.randn(size, self.preprocessing.channels, side, side, device=device),
            "classes": torch.randint(len(self.classes), (size, side, side), device=device),
        }

    def metrics(self) -> SegmentationMetrics:
        return SegmentationMetrics(self.classes)

    def measure(
        self,
        metrics: SegmentationMetrics,
        model: nn.Module,
        item: dict,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> np.ndarray:
        parts = []
        for rows, logits in self._rows(model, item, device, autocast):
            mask = item["classes"][rows].to(device)
            metrics.update(logits.argmax(0), mask)
            metrics.count_confidence(logits, mask)
            parts.append(likeliest(logits))
        prediction = np.concatenate(parts)
        metrics.count_image(item["name"], prediction, item["classes"].numpy())
        return prediction

    def _rows(
        self, model: nn.Module, item: dict, device: torch.device, autocast: torch.dtype | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """(rows, logits (C, len(rows), W)) of an evaluation item, from its image or from its stored taps."""
        if "taps" not in item:
            batch = TILES_ON_GPU if device.type == "cuda" else 1
            how = dict(batch=batch, tta=self.tta, device=device, autocast=autocast)
            yield from predict_rows(model, item["image"], self.preprocessing, **how)
            return
        taps = [tap[None].to(device) for tap in item["taps"]]
        with predicting(model, device, autocast):
            logits = model(taps)[0].float()
        shape = tuple(item["classes"].shape)
        yield from whole_rows(logits, self.preprocessing.inner(shape), shape)

    def table(self, figures: Figures) -> str:
        return table(figures)

    def scalars(self, figures: Figures) -> dict[str, float | None]:
        return {f"iou/{name}": value for name, value in figures["iou"].items()}

    def picture(self, model: nn.Module, dataset: SegmentationDataset) -> np.ndarray:
        """Images of the split, each beside its truth and the model's prediction."""
        rows = []
        for index in spread(len(dataset)):
            name, image, truth, prediction = self.pictures_of(model, dataset, index)
            titles = (name, "truth (grey: ignored)", "prediction")
            rows.append(list(zip(titles, (image, coloured(truth), coloured(prediction)), strict=True)))
        return page(rows, legend(self.classes))

    def samples(self, dataset: SegmentationDataset) -> np.ndarray:
        """Pixels that do not count, such as padding, are grey."""
        drawn = []
        for item in map(dataset.training_item, spread(len(dataset), SAMPLED)):
            image, mask = self.preprocessing.picture_of_input(item["image"]), item["classes"].numpy().astype(np.uint8)
            truth = overlay(image, mask)
            truth[mask == IGNORE_INDEX] = IGNORED
            drawn.append((image, truth))
        return sample_page(drawn, legend(self.classes))

    def pictures_of(
        self, model: nn.Module, dataset: SegmentationDataset, index: int
    ) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
        """Of an item: its name, image (H, W, 3) uint8, truth (H, W) with 255 for ignored, and prediction (H, W)."""
        item = dataset[index]
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        prediction = np.concatenate([likeliest(logits) for _, logits in self._rows(model, item, device)])
        image = self.preprocessing.picture(item["image"] if "image" in item else dataset.source.image(item["name"]))
        return item["name"], image, item["classes"].numpy(), prediction

    def use_tta(self, tta: str) -> None:
        self.tta = tta

    def reporter(self) -> SemanticReporter:
        return SemanticReporter(self, self.classes, self.pictures_of)
