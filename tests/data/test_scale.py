"""The scale of deep images: measured over the training images, checked, and of one kind of image."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from samseg.common.errors import ConfigError, InputError
from samseg.data.check import check_dataset
from samseg.data.config import DataConfig, complete_data
from samseg.data.scale import measured_scale


def write(root: Path, split: str, name: str, pixels: np.ndarray, nodata: str | None = None) -> None:
    """Pixels (H, W, C) and a mask of zeros."""
    for kind in ("images", "masks"):
        (root / split / kind).mkdir(parents=True, exist_ok=True)
    tags = [] if nodata is None else [(42113, "s", 0, nodata, False)]
    layout = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(root / split / "images" / f"{name}.tif", pixels, extratags=tags, **layout)
    Image.new("L", pixels.shape[1::-1]).save(root / split / "masks" / f"{name}.png")


def config(root: Path = Path("x"), **settings) -> DataConfig:
    return complete_data(DataConfig(**{"root": str(root), "classes": {"all": 0}, "image_size": 32} | settings))


def test_percentiles_are_those_of_the_valid_pixels_of_the_training_images(tmp_path):
    rng = np.random.default_rng(0)
    images = [(rng.random((60, 70, 3)) * [100, 1000, 9000] + 500).astype(np.float32) for _ in range(3)]
    for number, image in enumerate(images):
        image[:5] = np.nan
        image[5:9, :, 0] = -9999
        write(tmp_path, "train", f"t{number}", image, nodata="-9999")
    write(tmp_path, "val", "v", images[0] * 50)
    for bands in ([1, 2, 3], [3, 1]):
        expected = [np.percentile([image[9:, :, band - 1] for image in images], (2, 98)) for band in bands]
        found = measured_scale(config(tmp_path, bands=bands, scale="percentile"))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert all(type(value) is float for pair in found for value in pair)


def test_a_constant_band_and_one_without_data(tmp_path):
    pixels = np.full((8, 8, 3), 7, np.uint16)
    write(tmp_path, "train", "a", pixels)
    assert measured_scale(config(tmp_path, scale="percentile")) == [[7.0, 8.0]] * 3
    write(tmp_path, "train", "a", pixels, nodata="7")
    with pytest.raises(InputError, match="no pixel of the training images holds data"):
        measured_scale(config(tmp_path, scale="percentile"))


@pytest.mark.parametrize(
    "values, dtype, sentinel",
    [
        ((0, 0.97), np.float32, np.finfo(np.float32).min),
        ((0, 0.97), np.float32, 1e20),
        ((200, 3000), np.int16, -9999),
        ((0, 10_000), np.uint16, 0),  # black is black
        ((0, 10_000), np.uint16, None),
    ],
)
def test_a_value_far_from_all_others_is_asked_about(tmp_path, values, dtype, sentinel):
    pixels = np.random.default_rng(0).uniform(*values, (40, 50, 3)).astype(dtype)
    write(tmp_path, "train", "a", pixels)
    if sentinel is not None:
        pixels[:8] = sentinel
    write(tmp_path, "train", "b", pixels)
    data = config(tmp_path, scale="percentile")
    if not sentinel:
        assert len(measured_scale(data)) == 3
        return
    with pytest.raises(
        InputError, match=r"10 % of the pixels hold .* \(band 1 of those used, as in .*b.tif\)"
    ) as error:
        measured_scale(data)
    assert f"(gdal_edit -a_nodata {sentinel:g})" in str(error.value) and "\n" not in str(error.value)
    write(tmp_path, "train", "b", pixels, nodata=str(sentinel))
    assert measured_scale(data)[1] == pytest.approx(values, rel=0.1, abs=0.1 * values[1])


def test_pixels_without_data_count_as_ignored(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 99, (10, 10, 3)).astype(np.uint16)
    pixels[:3] = 0
    write(tmp_path, "train", "a", pixels, nodata="0")
    counts = check_dataset(config(tmp_path, scale=[0, 100]), ["train"]).splits["train"]
    assert counts.pixels == [70] and counts.ignored == 30


def test_one_scale_is_for_images_of_one_kind(tmp_path):
    write(tmp_path, "train", "a", np.ones((9, 9, 4), np.uint16))
    write(tmp_path, "val", "b", np.ones((9, 9, 4), np.uint8))
    data = config(tmp_path, scale=[0, 4000])
    with pytest.raises(InputError, match="b.tif has 4 bands of uint8, but .*a.tif has 4 bands of uint16: data.scale"):
        check_dataset(data, ["train", "val"])
    write(tmp_path, "val", "b", np.ones((9, 9, 3), np.uint16))
    with pytest.raises(InputError, match="b.tif has 3 bands of uint16, but .*a.tif has 4 bands"):
        check_dataset(data, ["train", "val"])


def test_mean_and_std_are_repeated_unless_they_are_given():
    assert config(bands=[1]).mean == [0.485]
    assert config(bands=[1, 2, 3, 4, 5]).std == [0.229, 0.224, 0.225, 0.229, 0.224]
    assert config(bands=[3, 2, 1]).mean == [0.485, 0.456, 0.406]
    assert config(bands=[1, 2], mean=[0.1, 0.2], std=[0.3, 0.4]).mean == [0.1, 0.2]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"bands": [0, 1]}, "data.bands must be bands' numbers from 1"),
        ({"bands": []}, "data.bands must be bands' numbers from 1"),
        ({"scale": "percent"}, r"data.scale must be null, percentile, \[low, high\] or .*got 'percent'"),
        ({"scale": 255}, "data.scale must be null, percentile"),
        ({"scale": [0, 1, 2]}, r"a range is \[low, high\] with low below high, got \[0, 1, 2\]"),
        ({"scale": [5, 5]}, "low below high"),
        ({"scale": [0, float("inf")]}, "low below high"),
        ({"scale": [[0, 1], [0, 2]]}, "data.scale must hold 3 ranges, one for each band used, got 2"),
        ({"scale": [[0, 1], [0, 2]], "bands": [4]}, "data.scale must hold 1 ranges"),
        ({"mean": [0.5]}, r"data.mean must hold 3 numbers \(R, G, B\), got \[0.5\]"),
        ({"std": [0.5], "bands": [1, 2]}, r"data.std must hold 2 numbers \(data.bands=\[1, 2\]\)"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)
