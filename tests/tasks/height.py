"""A second task, to hold the seam open: a height above ground for every pixel, by regression."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics.regression import MeanSquaredError

from samseg.common.errors import InputError
from samseg.models.build import Built, build_model
from samseg.tasks.pictures import page, spread
from samseg.tasks.task import Figures, Metrics, Objective, Task


class Heights(Dataset):
    """``root/split/NAME.png`` and its heights in metres ``NAME.npy``, all of the network's size; NaN: not known."""

    def __init__(self, folder: Path):
        self.images = sorted(folder.glob("*.png"))
        if not self.images:
            raise InputError(f"{folder} holds no images")

    def set_epoch(self, epoch: int) -> None:
        pass

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        path = self.images[index]
        image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
        return {"image": image, "height": torch.from_numpy(np.load(path.with_suffix(".npy")))}


class HeightObjective(Objective):
    """The squared error in square metres, over the pixels whose height is known."""

    def weight(self, batch: dict) -> Tensor:
        return batch["height"].isfinite().sum().float()

    def forward(self, outputs: Tensor, batch: dict, weight: Tensor, batches: int) -> Tensor:
        known = batch["height"].isfinite()
        return (outputs[:, 0][known] - batch["height"][known]).square().sum() / weight


class HeightMetrics(Metrics):
    def __init__(self):
        super().__init__()
        self.error = MeanSquaredError()

    def compute(self) -> Figures:
        return {"rmse": self.error.compute().sqrt().item()}


class Report:
    contents: dict[str, str] = {}

    def __init__(self, counts: dict[str, int]):
        self.counts = counts

    def images(self, split: str) -> int:
        return self.counts[split]

    def __str__(self) -> str:
        return f"images with heights: {self.counts}"


class HeightTask(Task):
    score, score_name, higher_is_better = "rmse", "RMSE", False
    columns = {"val_rmse": "rmse"}
    labels = {"val_rmse": "error in metres"}

    @classmethod
    def complete(cls, data, model, settings) -> None:
        pass

    def check(self, splits: Iterable[str]) -> Report:
        return Report({split: len(Heights(Path(self.data.root) / split)) for split in splits})

    def dataset(self, split: str, *, train: bool, seed: int) -> Heights:
        return Heights(Path(self.data.root) / split)

    def build_model(self, pretrained: bool = True) -> Built:
        return build_model(self.model, classes=1, pretrained=pretrained)

    def objective(self, report: Report) -> HeightObjective:
        return HeightObjective()

    def inputs(self, batch: dict) -> Tensor:
        return batch["image"]

    def random_batch(self, size: int, device: torch.device) -> dict:
        side = self.data.image_size
        return {"image": torch.rand(size, 3, side, side), "height": torch.rand(size, side, side)}

    def metrics(self) -> HeightMetrics:
        return HeightMetrics()

    def measure(self, metrics: HeightMetrics, model: nn.Module, item: dict, device, autocast=None) -> None:
        known = item["height"].isfinite()
        metrics.error.update(self._predicted(model, item)[known], item["height"][known])

    def _predicted(self, model: nn.Module, item: dict) -> Tensor:
        model.eval()
        with torch.inference_mode():
            return model(item["image"][None])[0, 0]

    def table(self, figures: Figures) -> str:
        return f"root mean squared error: {figures['rmse']:.3f} m"

    def scalars(self, figures: Figures) -> dict[str, float | None]:
        return {}

    def picture(self, model: nn.Module, dataset: Heights) -> np.ndarray:
        rows = []
        for index in spread(len(dataset)):
            predicted = self._predicted(model, dataset[index]).clamp(0, 9) / 9
            grey = (predicted * 255).byte()[..., None].expand(-1, -1, 3).numpy()
            rows.append([(dataset.images[index].stem, grey)])
        return page(rows)
