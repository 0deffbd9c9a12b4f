import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import InputError
from samseg.predict.draw import legend, overlay, palette, save_class_map, save_picture


def test_palette_is_the_same_for_few_and_many_classes():
    everything = palette(255)
    assert len(everything) == len(set(everything)) == 255
    assert all(palette(n) == everything[:n] for n in (1, 2, 11, 100))
    assert all(len(colour) == 3 and 0 <= min(colour) <= max(colour) <= 255 for colour in everything)


@pytest.mark.parametrize("n, apart", [(12, 60), (30, 35), (255, 12)])
def test_colours_are_distinct(n, apart):
    colours = np.array(palette(n), float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(n)
    assert distance.min() >= apart


@pytest.mark.parametrize("n", [0, 256])
def test_palette_refuses_what_a_class_map_cannot_hold(n):
    with pytest.raises(InputError, match=f"1 to 255 classes, got {n}"):
        palette(n)


@pytest.mark.parametrize("classes", [np.arange(256, dtype=np.uint8).reshape(8, 32), np.zeros((1, 1), np.uint8)])
def test_class_map_reads_back_as_indices_and_shows_the_palette(tmp_path, classes):
    path = tmp_path / "map.png"
    save_class_map(path, classes)
    with Image.open(path) as picture:
        assert picture.mode == "P" and picture.size == classes.shape[::-1]
        np.testing.assert_array_equal(np.asarray(picture), classes)
        shown = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(shown, np.array([*palette(255), (255, 255, 255)], np.uint8)[classes])
    assert [file.name for file in tmp_path.iterdir()] == ["map.png"]


def test_overlay_tints_areas_borders_them_and_leaves_the_background():
    image = np.full((20, 30, 3), 100, np.uint8)
    classes = np.zeros((20, 30), np.uint8)
    classes[5:15, 5:20] = 3
    classes[:, 25:] = 255
    result = overlay(image, classes)
    assert result.dtype == np.uint8
    colour = np.array(palette(4)[3])
    assert (result[classes == 0] == 100).all() and (result[classes == 255] == 100).all()
    assert (result[5, 5:20] == colour).all() and (result[5:15, 19] == colour).all()
    inside = result[6:14, 6:19].reshape(-1, 3)
    assert (inside == inside[0]).all()
    between = (inside[0].astype(int) - 100) / (colour - 100)
    assert np.ptp(between) < 0.05 and 0.3 < between.mean() < 0.7, "the photograph shines through"
    assert (image == 100).all(), "the image itself is not drawn on"


def test_overlay_without_a_background_tints_class_0_too():
    image = np.full((6, 6, 3), 200, np.uint8)
    classes = np.zeros((6, 6), np.uint8)
    classes[:, 4:] = 255
    result = overlay(image, classes, background=None)
    assert (result[:, :4] < 200).all() and (result[:, 4:] == 200).all(), "ignored pixels belong to no class"


def test_legend_shows_every_class_in_its_colour():
    for names in (["background", "building"], [f"class {i}" for i in range(255)]):
        picture = legend(names).astype(int) @ (1, 256, 65536)
        assert np.isin(np.array(palette(len(names))) @ (1, 256, 65536), picture).all()


def test_picture_is_written_as_its_suffix_says(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    save_picture(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
    save_picture(tmp_path / "a.jpg", image)
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"
