"""Averages over flips and turns, beside the mean of predictions made by hand of images turned by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from samseg.common.errors import ConfigError
from samseg.data.config import DataConfig, complete_data
from samseg.data.preprocess import Preprocessing
from samseg.evaluation.evaluate_run import evaluate_run
from samseg.inference.predictor import Predictor
from samseg.predict.rows import predict_logits
from tests.random_run import CLASSES, write_run


class Uneven(nn.Module):
    """A network whose answer depends on which way up the image is, and on how far a pixel is from the top left."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.look = nn.Conv2d(3, 3, 7, padding=3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        down = torch.linspace(0, 2, pixels.shape[2])[:, None]
        return 3 * self.look(pixels) * (1 + down)


def data(size: int) -> Preprocessing:
    return complete_data(DataConfig(classes=CLASSES, image_size=size)).preprocessing


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def by_hand(image: np.ndarray, tta: str, size: int, tile: bool) -> np.ndarray:
    """Probabilities (3, H, W): each view predicted as an image of its own, turned back, and their mean."""
    answers = []
    for turns in range(4):
        for mirrored in (False, True):
            if tta == "flips" and turns % 2:
                continue
            view = np.rot90(image[:, ::-1] if mirrored else image, turns).copy()
            answer = predict_logits(Uneven(), view, data(size), tile=tile).softmax(0).numpy()
            answer = np.rot90(answer, -turns, (1, 2))
            answers.append(answer[..., ::-1] if mirrored else answer)
    assert len(answers) == {"flips": 4, "d4": 8}[tta]
    return np.mean(answers, axis=0)


# Of the network's size or smaller than a tile; or with tiles that lie alike from all sides (32 px, 8 of them shared).
@pytest.mark.parametrize("tta", ["flips", "d4"])
@pytest.mark.parametrize(
    "shape, size, tile",
    [((48, 64), 64, False), ((64, 21), 64, False), ((48, 30), 64, True), ((56, 80), 32, True), ((20, 104), 32, True)],
)
def test_the_answer_is_the_mean_of_predictions_made_by_hand(shape, size, tile, tta):
    image = noise(*shape)
    found = predict_logits(Uneven(), image, data(size), tile=tile, tta=tta).softmax(0).numpy()
    np.testing.assert_allclose(found, by_hand(image, tta, size, tile), atol=1e-5)
    plain = predict_logits(Uneven(), image, data(size), tile=tile).softmax(0).numpy()
    assert np.abs(found - plain).max() > 0.05


@pytest.mark.parametrize("tile", [True, False])
@pytest.mark.parametrize("tta", ["flips", "d4"])
def test_a_network_that_sees_pixels_alone_answers_as_before(tile, tta):
    model = nn.Conv2d(3, 3, 1)
    image = noise(70, 101)
    plain = predict_logits(model, image, data(64), tile=tile).softmax(0)
    averaged = predict_logits(model, image, data(64), tile=tile, tta=tta).softmax(0)
    torch.testing.assert_close(averaged, plain, atol=1e-5, rtol=0)


def test_a_class_nobody_believes_in_stays_finite():
    model = nn.Conv2d(3, 3, 1)
    nn.init.constant_(model.weight, 0)
    model.bias.data = torch.tensor([1e4, 0.0, 0.0])
    logits = predict_logits(model, noise(40, 64), data(64), tta="d4")
    assert logits.isfinite().all() and (logits.argmax(0) == 0).all()


def test_a_run_is_evaluated_as_it_predicts(scenes, tmp_path):
    run = write_run(tmp_path / "run", root=str(scenes))
    text = (run / "config.yaml").read_text().replace("ignore: []", "ignore: [9, 3]")
    (run / "config.yaml").write_text(text)
    right, total = 0, 0
    predictor = Predictor.from_run(run, tta="flips")
    for name in ("test0", "test1"):
        truth = np.asarray(Image.open(scenes / "test" / "masks" / f"{name}.png"))
        known = ~np.isin(truth, (9, 3))
        right += (predictor(scenes / "test" / "images" / f"{name}.png") == truth)[known].sum()
        total += known.sum()
    figures = evaluate_run(run, "test", tta="flips").figures
    assert figures["accuracy"] == pytest.approx(right / total) and figures["tta"] == "flips"
    assert evaluate_run(run, "test").figures["accuracy"] != figures["accuracy"]
    with pytest.raises(ConfigError, match="tta must be one of flips, d4, got d8"):
        Predictor.from_run(run, tta="d8")
