"""SAM with its prompts, fine-tuned on true objects."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from samseg.common.errors import ConfigError
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig, open_source
from samseg.data.dataset import SegmentationDataset
from samseg.data.preprocess import SQUASH
from samseg.data.target import check_classes
from samseg.models.build import Built
from samseg.models.config import ModelConfig
from samseg.models.sam.build import build_promptable
from samseg.models.sam.contract import Features, PromptableSam
from samseg.models.sam.prompts import PromptConfig, complete_prompts
from samseg.models.sam.simulate import boxes_of, evenly_drawn, large_enough
from samseg.models.sam.transform import Padded, Squashed
from samseg.predict.rows import likeliest, predicting, whole_rows
from samseg.tasks.losses import LossConfig, SegmentationLoss, complete_loss
from samseg.tasks.pictures import SAMPLED, page, sample_page, spread
from samseg.tasks.promptable.clicks import box_answers, object_scores, shape_scores
from samseg.tasks.promptable.losses import PromptLoss
from samseg.tasks.promptable.metrics import PromptMetrics, table
from samseg.tasks.promptable.pictures import boxes_over, objects_over
from samseg.tasks.promptable.report import ObjectReport, check_objects, countable
from samseg.tasks.promptable.reporter import PromptReporter
from samseg.tasks.promptable.target import known_objects, object_target
from samseg.tasks.task import Figures, Objective, Task

DRAWN = 60  # objects in a picture


class PromptObjective(Objective):
    """The mean of the objects' losses; in a step without prompts cross entropy and Dice of the classes.

    A batch weighs the objects that are prompted for in it; a step without prompts is given the say of that many.
    """

    def __init__(self, prompts: PromptConfig, classes: list[str]):
        super().__init__()
        self.prompts, self.classes = prompts, None
        if prompts.none > 0:
            loss = LossConfig(ce=1.0, dice=1.0)
            complete_loss(loss, classes)
            self.classes = SegmentationLoss(loss, classes)

    def weight(self, batch: dict) -> Tensor:
        objects, _ = known_objects(batch["objects"])
        found = [len(large_enough(image, self.prompts.min_pixels)) for image in objects]
        most = self.prompts.objects or max(found)
        return objects.new_tensor(max(1, sum(min(count, most) for count in found)), dtype=torch.float32)

    def forward(self, outputs: dict, batch: dict, weight: Tensor, batches: int) -> Tensor:
        if "logits" in outputs:
            return self.classes(outputs["logits"], batch["classes"]) * self.weight(batch) / weight + outputs["nothing"]
        return outputs["loss"] / weight + outputs["nothing"]


class PromptableTask(Task):
    """Masks from prompts, and classes without if `prompts.none` is above 0; the mean IoU of prompts picks the best."""

    section = "prompts"
    score, score_name = "iou", "IoU"
    columns = {
        "val_iou": "iou",
        "val_box": "box",
        "val_clicks_1": "clicks_1",
        "val_clicks_8": "clicks_8",
        "val_iou_error": "iou_error",
    }
    labels = {
        "val_iou": "mean IoU",
        "val_box": "from a box",
        "val_clicks_1": "from one point",
        "val_clicks_8": "after 8 clicks",
        "val_iou_error": "error of the predicted IoU",
    }
    resizes_as_taught = True
    settings: PromptConfig

    def __init__(self, data: DataConfig, model: ModelConfig, settings: PromptConfig):
        super().__init__(data, model, settings)
        self.classes = list(data.classes)
        self._before: PromptableSam | None = None
        self._scores_before: dict[str, Tensor] = {}  # by image: they stay what they were

    @classmethod
    def complete(cls, data: DataConfig, model: ModelConfig, settings: PromptConfig) -> None:
        if model.arch.lower() != "sam":
            raise ConfigError(f"task: promptable trains SAM's own mask decoder: set model.arch=sam, it is {model.arch}")
        if not data.resize:
            raise ConfigError("task: promptable sees whole images: set data.resize=true, or cut the images beforehand")
        if data.classes:
            check_classes(data)
        complete_prompts(settings, list(data.classes))

    def check(self, splits: Iterable[str]) -> ObjectReport:
        return check_objects(self.data, splits, self.settings.classes, self.settings.min_pixels)

    def dataset(self, split: str, *, train: bool, seed: int) -> SegmentationDataset:
        """Images without an object are left out of training, which knows nothing to do with them."""
        source = open_source(self.data, split)
        target = object_target(self.data, source, self.settings.classes)
        if train:
            least = self.settings.min_pixels

            def count(name: str) -> int:
                return countable(target(source, name)["objects"], self.preprocessing, least, source, name)

            source.names = [name for name in source.names if count(name)]
        drawn = dict(views=self.data.views, augment=self.data.augment)
        return SegmentationDataset(source, target, self.preprocessing, train=train, seed=seed, **drawn)

    def build_model(self, pretrained: bool = True) -> Built:
        return build_promptable(
            self.model,
            self.settings,
            PromptLoss(self.settings.loss, self.settings.iou),
            image_transform=(Squashed if self.preprocessing.resize == SQUASH else Padded)(self.preprocessing.size),
            classes=len(self.classes),
            in_channels=self.preprocessing.channels,
            pretrained=pretrained,
        )

    def objective(self, report: ObjectReport) -> PromptObjective:
        return PromptObjective(self.settings, self.classes)

    def inputs(self, batch: dict) -> dict:
        given = {"taps": batch["taps"]} if "taps" in batch else {"image": batch["image"]}
        objects, valid = known_objects(batch["objects"])
        return given | {"objects": objects, "valid": valid}

    def random_batch(self, size: int, device: torch.device) -> dict:
        """Each image full of square objects, as many as are prompted for."""
        side, across = self.preprocessing.size, 1 + int((self.settings.objects or 100) ** 0.5)
        edge = -(-side // across)
        row = torch.arange(side, device=device) // edge
        objects = IGNORE_INDEX + 1 + across * row[:, None] + row
        return {
            "image": torch.randn(size, self.preprocessing.channels, side, side, device=device),
            "objects": objects.expand(size, side, side),
            "classes": torch.zeros(size, side, side, dtype=torch.int64, device=device),
        }

    def metrics(self) -> PromptMetrics:
        return PromptMetrics(self.classes if self.settings.none > 0 else None)

    def measure(
        self,
        metrics: PromptMetrics,
        model: PromptableSam,
        item: dict,
        device: torch.device,
        autocast: torch.dtype | None = None,
    ) -> np.ndarray | None:
        objects, valid = known_objects(item["objects"])
        numbers, parts = self._numbers(objects), []
        metrics.shapes.update(shape_scores(objects == numbers[:, None, None]))
        with predicting(model, device, autocast):
            features = self._features(model, item, device)
            metrics.count_image(item["name"], object_scores(model, features, objects, valid, numbers))
            if metrics.classes is not None:
                square, shape = (self.preprocessing.size, self.preprocessing.size), tuple(objects.shape)
                whole = model.without_prompts(features, square)[0]
                for rows, logits in whole_rows(whole, self.preprocessing.inner(shape), shape):
                    metrics.classes.update(logits.argmax(0), item["classes"][rows].to(device))
                    parts.append(likeliest(logits))
        if self.model.weights is not None:
            if item["name"] not in self._scores_before:
                before = self._as_it_came(model, device)
                with predicting(before, device, autocast):
                    features = self._features(before, item, device)
                    self._scores_before[item["name"]] = object_scores(before, features, objects, valid, numbers)
            metrics.before.update(self._scores_before[item["name"]])
        return np.concatenate(parts) if parts else None

    def table(self, figures: Figures) -> str:
        return table(figures)

    def reporter(self) -> PromptReporter:
        return PromptReporter(self)

    def scalars(self, figures: Figures) -> dict[str, float | None]:
        """The figures that are no columns, and the classes' IoU without prompts."""
        told = ("clicks_3", "clicks_5", "clicks_to_enough", "reached")
        scalars = {f"prompts/{name}": figures[name] for name in told}
        if figures["classes"] is not None:
            scalars["no_prompt/miou"] = figures["miou"]
            scalars |= {f"no_prompt/iou/{name}": value for name, value in figures["classes"]["iou"].items()}
        return scalars

    def picture(self, model: PromptableSam, dataset: SegmentationDataset) -> np.ndarray:
        """Images of the split: boxes that are prompts, the truth, the answers of SAM as it came, and those of now."""
        rows = []
        device = next(model.parameters()).device
        for index in spread(len(dataset)):
            item = dataset[index]
            objects, _ = known_objects(item["objects"])
            truth = objects == self._numbers(objects)[:DRAWN, None, None]
            image = self.preprocessing.picture(item["image"] if "image" in item else dataset.source.image(item["name"]))
            prompts = boxes_over(image, boxes_of(truth))
            row = [(f"{item['name']}: boxes", prompts), ("truth", objects_over(image, truth.numpy()))]
            models = {"from the boxes": model}
            if self.model.weights is not None:
                models = {"as it came, from the boxes": self._as_it_came(model, device), "now": model}
            for title, network in models.items():
                answers = truth  # none, where there is no object
                if len(truth):
                    with predicting(network, device, None):
                        answers = box_answers(network, self._features(network, item, device), truth)[0].cpu() > 0
                row.append((title, objects_over(image, answers.numpy())))
            rows.append(row)
        return page(rows)

    def samples(self, dataset: SegmentationDataset) -> np.ndarray:
        """Objects have colours of their own."""
        drawn = []
        for item in map(dataset.training_item, spread(len(dataset), SAMPLED)):
            image, objects = self.preprocessing.picture_of_input(item["image"]), known_objects(item["objects"])[0]
            masks = objects == large_enough(objects, self.settings.min_pixels)[:, None, None]
            drawn.append((image, objects_over(image, masks.numpy())))
        return sample_page(drawn)

    def _numbers(self, objects: Tensor) -> Tensor:
        """The objects of an evaluation image that count: large enough, at most `prompts.objects`, evenly drawn."""
        return evenly_drawn(objects, self.settings.min_pixels, self.settings.objects)

    def _features(self, model: PromptableSam, item: dict, device: torch.device) -> Features:
        if "taps" in item:
            return model.embed([tap[None].to(device) for tap in item["taps"]])
        return model.embed(self.preprocessing.whole_input(item["image"])[None].to(device))

    def _as_it_came(self, model: PromptableSam, device: torch.device) -> PromptableSam:
        """The model before training; it shares an encoder that does not learn."""
        if self._before is None:
            with torch.random.fork_rng(devices=[]):
                self._before = self.build_model().model.to(device).eval()
            if not any(parameter.requires_grad for parameter in model.encoder.parameters()):
                self._before.encoder = model.encoder
        return self._before
