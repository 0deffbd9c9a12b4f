"""A whole run on images of four deep bands: measured scale, cache, resumption, inference and export."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from samseg.common.errors import InputError
from samseg.data.scale import measured_scale
from samseg.inference.photos import predict_images
from samseg.inference.predictor import Predictor
from samseg.runs.config.load import load_config
from samseg.runs.export import export
from samseg.runs.folder import read_run_config
from samseg.runs.load import load_run
from samseg.training.run import train
from tests.conftest import TINY

pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture
def config_file(tmp_path, monkeypatch) -> Path:
    """Reflectances of which the fourth alone tells the classes apart, with NaN in a corner; no two of one size."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, images in (("train", 4), ("val", 2), ("test", 1)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for number in range(images):
            shape = 50 + 3 * number, 64 - 5 * number
            mask = np.zeros(shape, np.uint8)
            mask[: shape[0] // 2] = 1
            pixels = rng.normal(3000, 300, (*shape, 4)).astype(np.float32)
            pixels[..., 3] += 3000 * mask.astype(np.float32)
            pixels[-9:, -11:] = np.nan
            layout = {"photometric": "minisblack", "planarconfig": "contig"}
            tifffile.imwrite(tmp_path / "data" / split / "images" / f"{split}{number}.tif", pixels, **layout)
            Image.fromarray(mask).save(tmp_path / "data" / split / "masks" / f"{split}{number}.png")
    data = {"root": "data", "classes": {"low": 0, "high": 1}, "bands": [4, 1, 2, 3], "scale": "percentile"}
    content = TINY | {"data": data | {"image_size": 64}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path / "run.yaml"


def test_the_scale_is_measured_once_and_stays(config_file, capsys):
    config = load_config(config_file, ["train.epochs=1"])
    folder = train(config, "bands")
    scale = measured_scale(config.data)
    assert read_run_config(folder).data.scale == scale and len(scale) == 4
    assert f"data.scale: percentile is {scale}" in capsys.readouterr().out
    for file in Path("data/train/images").iterdir():  # measured anew it would be another
        pixels = tifffile.imread(file)
        tifffile.imwrite(file, pixels * 2, photometric="minisblack", planarconfig="contig")
    more = load_config(config_file, ["train.epochs=1", "train.resume=true"])
    assert train(more, "bands") == folder and read_run_config(folder).data.scale == scale


def test_what_was_learnt_of_bands_is_used_by_all_who_come_after(config_file, tmp_path):
    folder = train(load_config(config_file, ["train.epochs=12", "train.lr=0.01", "data.augment=[HorizontalFlip]"]), "b")
    predictor = Predictor.from_run(folder, "cpu")
    file = Path("data/test/images/test0.tif")
    truth = np.array(Image.open("data/test/masks/test0.png"))
    assert (predictor(file) == truth)[:-9].mean() > 0.8  # the first three bands are noise
    assert np.array_equal(predictor(tifffile.imread(file)), predictor(file))
    predict_images(predictor, [file], tmp_path / "out")
    written = np.array(Image.open(tmp_path / "out" / "test0.png"))
    assert (written[-9:, -11:] == 255).all() and np.array_equal(written[:-9], predictor(file)[:-9])
    assert np.array(Image.open(tmp_path / "out" / "test0_overlay.jpg")).shape == (50, 64, 3)
    model, config = load_run(export(folder, "safetensors"))
    assert config.data.bands == [4, 1, 2, 3] and np.array_equal(Predictor(model, config, "cpu")(file), predictor(file))
    with pytest.raises(InputError, match="image has 3 bands; data.bands=.* asks for band 4"):
        predictor(np.zeros((9, 9, 3), np.uint8))


def test_features_of_bands_are_cached_and_pixels_without_data_do_not_count(config_file, tmp_path):
    settings = ["train.epochs=1", "model.encoder=sam-vit_t", "model.decoder={}", "model.freeze_encoder=true"]
    settings += ["data.views=2", "train.workers=1", "train.accumulate=99"]  # one step, for those after it drift
    cached = ["train.cache_features=true", "train.cache_dtype=float32", f"train.cache_dir={tmp_path / 'cache'}"]
    losses = []
    for number, extra in enumerate((cached, [])):
        folder = train(load_config(config_file, [*settings, *extra]), f"run{number}")
        row = (folder / "history.csv").read_text().splitlines()[1].split(",")
        losses.append(float(row[1]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
