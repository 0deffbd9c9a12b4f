"""What the page shows, without a browser."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from samseg.common.errors import InputError
from samseg.data.formats.images import read_image
from samseg.data.raster import as_picture
from samseg.demo.classes import answer, blended, difference_map, legend, values
from samseg.demo.clicks import BOX, NEGATIVE, POSITIVE, Clicks
from samseg.demo.uploads import read_upload
from samseg.inference.predictor import Predictor
from samseg.models.build import build_model
from samseg.runs.config.load import load_config
from tests.encoders.conftest import SMALL, SMALL_HIERA, SMALL_SAM3


@pytest.fixture
def predictor(tiny_config):
    torch.manual_seed(0)
    config = load_config(tiny_config)
    return Predictor(build_model(config.model, classes=3).model, config, "cpu")


@pytest.mark.parametrize("tile", [None, True])
def test_an_answer_is_the_predictors(predictor, scenes, tile):
    image = read_image(scenes / "test" / "images" / "test0.png")
    found = answer(predictor, image, tile)
    predictor.tile = tile
    probabilities = predictor.probabilities(np.moveaxis(image.pixels, 0, -1))
    assert (found.classes == probabilities.argmax(0)).all()
    np.testing.assert_allclose(found.probability / 255, probabilities.max(0), atol=1 / 255)
    entropy = -(probabilities * np.log(probabilities)).sum(0) / np.log(3)
    np.testing.assert_allclose(found.uncertainty / 255, entropy, atol=2 / 255)
    name = found.names[found.classes[5, 7]]
    assert found.at(7, 5) == f"(7, 5): **{name}**, probability {probabilities[:, 5, 7].max():.2f}"
    assert (blended(found, 0) == found.picture).all()
    found.names[1] = "background"
    left = (blended(found, 0.5) == found.picture).all(axis=2)
    assert left[found.classes == 1].all() and not left[found.classes != 1].any()
    picture, share = difference_map(found, found)
    assert share == 0 and (picture.std(axis=2) == 0).all()


def test_class_names_are_text_on_the_page(predictor, scenes):
    found = answer(predictor, read_image(scenes / "test" / "images" / "test0.png"), None)
    found.names[0] = "<script>"
    for html in (legend(found), values(found)):
        assert "<script>" not in html and "&lt;script&gt;" in html


def test_what_the_pointer_looks_up(predictor, scenes, monkeypatch):
    found = answer(predictor, read_image(scenes / "test" / "images" / "test0.png"), None)
    for longest in (2048, 20):
        monkeypatch.setattr("samseg.demo.classes.VALUES_PX", longest)
        encoded = re.search(r"base64,([^\"]+)", values(found))[1]
        red, green, _ = np.moveaxis(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))), -1, 0)
        assert max(red.shape) == min(longest, 80)
        if longest > 80:
            assert (red == found.classes).all() and (green == found.probability).all()
        assert set(np.unique(red)) <= set(np.unique(found.classes)), "classes do not blend"


def test_uploads_are_read_and_deleted(tmp_path, monkeypatch):
    Image.new("RGB", (9, 5), (1, 2, 3)).save(tmp_path / "image.png")
    assert read_upload(tmp_path / "image.png").pixels.shape == (3, 5, 9)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError) as caught:
        read_upload(tmp_path / "text.png")
    assert str(tmp_path) not in str(caught.value) and "text.png" in str(caught.value)
    monkeypatch.setattr("samseg.demo.uploads.MOST_PIXELS", 40)
    Image.new("RGB", (9, 5)).save(tmp_path / "large.png")
    with pytest.raises(InputError, match="large.png is 9 x 5 pixels, more than the page takes"):
        read_upload(tmp_path / "large.png")
    assert not list(tmp_path.iterdir())


def test_maps_are_previewed(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = dict(driver="GTiff", width=5000, height=2500, count=1, dtype="uint16", crs="EPSG:32616", compress="lzw")
    transform = rasterio.Affine(1, 0, 0, 0, -1, 0)
    with rasterio.open(tmp_path / "map.tif", "w", transform=transform, **profile) as file:
        file.write(np.full((1, 2500, 5000), 700, np.uint16))
    preview = read_upload(tmp_path / "map.tif")
    assert preview.pixels.shape == (1, 1024, 2048) and (preview.pixels == 700).all()
    assert as_picture(preview).shape == (1024, 2048, 3)


@pytest.mark.parametrize("variant", [SMALL, SMALL_HIERA, SMALL_SAM3])
def test_clicks_embed_once_and_can_be_taken_back(variant):
    from samseg.models.sam.files import empty_sam

    torch.manual_seed(0)
    sam = empty_sam(variant, image_size=56 if variant == SMALL_SAM3 else 64)
    calls = []
    sam.encoder.trunk.register_forward_hook(lambda *_: calls.append(1))
    clicks = Clicks.on(sam, np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    assert clicks.mask() is None
    mask, score = clicks.add(POSITIVE, 30, 20).mask()
    assert mask.shape == (40, 60) and mask.dtype == bool
    again, _ = clicks.add(NEGATIVE, 3, 4).take_back(1).mask()
    assert (again == mask).all()
    clicks.take_back().add(BOX, 50, 30).add(BOX, 10, 5)
    expected = clicks.predictor.predict(box=np.array([10, 5, 50, 30]), multimask_output=False)[0][0]
    assert (clicks.mask()[0] == expected).all()
    assert clicks.picture(expected).shape == (40, 60, 3)
    assert len(calls) == 1
