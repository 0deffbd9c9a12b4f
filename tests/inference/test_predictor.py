from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import samseg
from samseg.common.errors import InputError
from samseg.data.config import DataConfig, complete_data
from samseg.data.preprocess import Preprocessing, normalised
from samseg.inference.predictor import Predictor
from samseg.predict.rows import predict_logits, predict_rows
from tests.random_run import CLASSES, write_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)


class Colours(nn.Module):
    """A model whose classes are the brightness of red, green and blue: what it sees is what it answers."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(3.0))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels * self.gain


def data(size: int = 64, resize: bool = True) -> Preprocessing:
    return complete_data(DataConfig(classes=CLASSES, image_size=size, resize=resize)).preprocessing


def test_whole_image_goes_through_at_the_networks_size(image):
    pixels = image.repeat(2, axis=0).repeat(2, axis=1)[:128, :96]  # halving it gives ``half`` exactly
    half = image[:64, :48]
    logits = predict_logits(Colours(), pixels, data())
    seen = normalised(half, data().mean, data().std)[None] * 3
    expected = F.interpolate(seen, (128, 96), mode="bilinear", align_corners=False)[0]
    assert logits.dtype == torch.float32 and not logits.requires_grad
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (63, 64), (64, 64), (65, 130), (1, 200), (200, 1)])
def test_tiles_go_through_at_native_resolution(shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = (normalised(image, data().mean, data().std) * 3).softmax(0)
    logits = predict_logits(Colours(), image, data(), tile=True)
    torch.testing.assert_close(logits.exp(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits.softmax(0), expected, atol=1e-5, rtol=1e-4)


def test_a_class_no_tile_believes_in_stays_finite():
    model = Colours()
    model.gain.data.fill_(1e4)
    image = np.zeros((65, 64, 3), np.uint8)
    image[..., 0] = 255
    logits = predict_logits(model, image, data(), tile=True)
    assert logits.isfinite().all() and (logits.argmax(0) == 0).all()


@pytest.mark.parametrize("resize", [True, False])
def test_the_way_of_training_is_the_default(image, resize):
    config = data(resize=resize)
    asked = predict_logits(Colours(), image, config, tile=not resize)
    other = predict_logits(Colours(), image, config, tile=resize)
    assert torch.equal(predict_logits(Colours(), image, config), asked)
    assert not torch.allclose(asked.softmax(0), other.softmax(0), atol=1e-2)


def test_tall_images_come_in_parts_that_make_the_whole():
    image = np.random.default_rng(2).integers(0, 256, (1100, 1300, 3), dtype=np.uint8)
    parts = list(predict_rows(Colours(), image, data(), tile=False))
    assert len(parts) > 1 and parts[-1][0].stop == 1100
    joined = predict_logits(Colours(), image, data(), tile=False)
    assert joined.shape == (3, 1100, 1300)
    for rows, logits in parts:
        assert torch.equal(joined[:, rows], logits)


def test_prediction_in_training_changes_nothing_in_the_model(image, run_folder):
    """Batch statistics stay, and so does each module's mode: a frozen encoder is kept in eval while the rest trains."""
    model, config = samseg.load_run(run_folder)
    model.train()
    model.encoder.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for tile in (True, False):
        first = predict_logits(model, image, config.data.preprocessing, tile=tile)
        assert model.training and model.decoder.training and not model.encoder.training
        assert not any(module.training for module in model.encoder.modules())
        assert torch.equal(first, predict_logits(model.eval(), image, config.data.preprocessing, tile=tile))
        model.train()
        model.encoder.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    list_of_modes = [module.training for module in model.modules()]
    rows = predict_rows(model, image, config.data.preprocessing, tile=True)
    next(rows)
    rows.close()  # given up half-way
    assert [module.training for module in model.modules()] == list_of_modes


@pytest.mark.parametrize("wrong", [
    np.zeros((8, 8, 2), np.uint8), np.zeros(8, np.uint8), np.zeros((8, 8, 3), np.float32),
    np.zeros((8, 8, 3), np.uint16), np.zeros((0, 8, 3), np.uint8), np.zeros((8, 8, 3), complex),
])  # fmt: skip
def test_arrays_that_the_model_is_not_for_are_refused(wrong):
    with pytest.raises(InputError, match=r"^image (must be|has two bands|holds)") as error:
        predict_logits(Colours(), wrong, data())
    assert "\n" not in str(error.value)


def test_predictor_gives_classes_and_probabilities_at_the_images_size(image, run_folder):
    for tile in (None, True, False):
        predictor = samseg.Predictor.from_run(run_folder, "cpu", tile=tile)
        assert predictor.classes == list(CLASSES)
        classes, probabilities = predictor(image), predictor.probabilities(image)
        assert classes.shape == (70, 101) and classes.dtype == np.uint8
        assert probabilities.shape == (3, 70, 101) and probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
        np.testing.assert_array_equal(probabilities.argmax(0), classes)
        model, config = samseg.load_run(run_folder)
        expected = predict_logits(model, image, config.data.preprocessing, tile=tile).softmax(0).numpy()
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_predictor_takes_paths_pil_images_and_arrays_alike(image, run_folder, tmp_path):
    predictor = Predictor.from_run(run_folder, "cpu")
    expected = predictor.probabilities(image)
    turned = Image.fromarray(image).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # "turn me clockwise"
    turned.save(tmp_path / "a.png", exif=turned.getexif())
    Image.fromarray(image).save(tmp_path / "b.png")
    for form in (tmp_path / "a.png", str(tmp_path / "b.png"), Image.fromarray(image), Image.open(tmp_path / "a.png")):
        np.testing.assert_array_equal(predictor.probabilities(form), expected)
    grey = Image.fromarray(image[..., 0])
    np.testing.assert_array_equal(predictor(grey), predictor(np.repeat(image[..., :1], 3, axis=2)))
    with pytest.raises(InputError, match="uint16, .*8-bit images"):
        predictor(Image.fromarray(np.zeros((8, 8), np.uint16)))
    with pytest.raises(InputError, match="missing.png"):
        predictor(tmp_path / "missing.png")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_predicts_in_the_precision_of_training(image, tmp_path):
    exact = Predictor.from_run(write_run(tmp_path / "a"), "cpu").probabilities(image)
    for precision, tolerance in (("fp32", 1e-3), ("bf16", 5e-2), ("fp16", 1e-2)):
        run = write_run(tmp_path / precision, precision=precision)
        for tile in (True, False):
            exact = Predictor.from_run(run, "cpu", tile=tile).probabilities(image)
            error = np.abs(Predictor.from_run(run, tile=tile).probabilities(image) - exact).max()
            assert error < tolerance and (error > 1e-5 or precision == "fp32")


def test_device_that_is_not_there_is_refused(run_folder):
    for name in ("cuda:77", "nonsense"):
        with pytest.raises(InputError, match=f"device {name} cannot be used"):
            Predictor.from_run(run_folder, name)


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="config.yaml"):
        Predictor.from_run(tmp_path)
    with pytest.raises(InputError, match="missing"):
        Predictor.from_run(tmp_path / "missing")
