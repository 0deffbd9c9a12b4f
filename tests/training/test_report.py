import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from samseg.config.load import load_config
from samseg.data.dataset import SegmentationDataset
from samseg.predict.draw import palette
from samseg.training.report import draw_curves, draw_predictions


class Everything(nn.Module):
    """Predicts class 2 everywhere."""

    def forward(self, x):
        return torch.eye(3)[2].reshape(1, 3, 1, 1).expand(len(x), 3, *x.shape[2:])


def colours(path) -> dict:
    pixels, counts = np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(pixel.tolist()): int(count) for pixel, count in zip(pixels, counts, strict=True)}


def test_predictions_are_drawn_beside_truth_in_the_classes_colours(tiny_config, tmp_path):
    config = load_config(tiny_config).data
    dataset = SegmentationDataset(config.root, "train", config, train=False, seed=0)
    path = tmp_path / "validation.png"
    draw_predictions(Everything(), dataset, config, path)
    found = colours(path)
    ground, green, blue = palette(3)
    assert found[ground] > found[green] > 1000  # in the truth only
    assert found[blue] > found[ground]  # the whole of the prediction
    assert found[128, 128, 128] > 1000  # the ignored rows


@pytest.mark.parametrize("images", [1, 2, 9])
def test_any_number_of_images(tiny_config, tmp_path, images):
    config = load_config(tiny_config).data
    dataset = SegmentationDataset(config.root, "val", config, train=False, seed=0)
    draw_predictions(Everything(), dataset, config, tmp_path / "a.png", images=images)
    assert Image.open(tmp_path / "a.png").height > 300 * min(images, 3)


@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_curves_of_any_length_and_with_gaps(tmp_path, epochs):
    history = [
        {"epoch": epoch, "loss": 1 / epoch, "lr": 1e-3, "val_miou": None if epoch == 2 else 0.5, "val_accuracy": 0.7}
        for epoch in range(1, epochs + 1)
    ]
    draw_curves(history, tmp_path / "curves.png")
    assert len(colours(tmp_path / "curves.png")) > 10
