"""One file read as a photo and as a map: the same pixels, and the same of them hold data. Labels are as stored."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

pytest.importorskip("rasterio")
import rasterio

from samseg.common.errors import InputError
from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.formats.images import image_shape, may_lack_data, read_image, read_label
from tests.maps.rasters import NORTH_UP

RNG = np.random.default_rng(0)
SHAPE = (40, 50)
RGB = RNG.integers(0, 256, (3, *SHAPE), dtype=np.uint8)
INDICES = RNG.integers(0, 4, SHAPE, dtype=np.uint8)
TABLE = np.array([[0, 0, 0], [255, 0, 0], [10, 20, 30], [0, 255, 0]], np.uint8)
SEEN = np.ones(SHAPE, bool)
SEEN[3:9, 4:20] = False


def geotiff(
    path: Path, pixels: np.ndarray, colormap: np.ndarray | None = None, mask=None, inside=True, **options
) -> None:
    pixels = np.atleast_3d(pixels.T).T
    shape = dict(zip(("count", "height", "width"), pixels.shape)) | {"dtype": pixels.dtype}
    place = {"crs": "EPSG:32616", "transform": NORTH_UP}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(path, "w", driver="GTiff", **shape, **place, **options) as raster,
    ):
        if colormap is not None:  # before the pixels, or it stands in a file beside
            raster.write_colormap(1, dict(enumerate(map(tuple, colormap.tolist()))))
        raster.write(pixels)
        if mask is not None:
            raster.write_mask(mask)


def palette(path):
    geotiff(path, INDICES, colormap=TABLE)
    return np.moveaxis(TABLE[INDICES], -1, 0), None


def palette_with_nodata(path):
    geotiff(path, INDICES, colormap=TABLE, nodata=2)
    return np.moveaxis(TABLE[INDICES], -1, 0), INDICES != 2


def from_white(path):
    geotiff(path, RGB[0], photometric="MINISWHITE")
    return 255 - RGB[:1], None


def from_white_with_nodata(path):
    geotiff(path, RGB[0], photometric="MINISWHITE", nodata=7)
    return 255 - RGB[:1], RGB[0] != 7


def one_bit_from_white(path):
    tifffile.imwrite(path, INDICES > 1)
    return np.where(INDICES > 1, 0, 255)[None], None


def one_bit(path):
    geotiff(path, (INDICES > 1).astype(np.uint8), nbits=1)
    return np.where(INDICES > 1, 255, 0)[None], None


def four_bits(path):
    geotiff(path, INDICES * 5, nbits=4)
    return INDICES[None] * 85, None


def deep_from_white(path):
    tifffile.imwrite(path, RGB[0].astype(np.uint16) * 9, photometric="miniswhite")
    return RGB[:1].astype(np.uint16) * 9, None


def transparent(path):
    geotiff(path, np.concatenate([RGB, SEEN[None] * np.uint8(9)]), photometric="RGB", alpha="YES")
    return RGB, SEEN


def deep_and_transparent(path):
    geotiff(path, np.concatenate([RGB, SEEN[None]]).astype(np.uint16), photometric="RGB", alpha="YES")
    return RGB, SEEN


def masked(path):
    geotiff(path, RGB, photometric="RGB", mask=SEEN)
    return RGB, SEEN


def deep_and_masked(path):
    geotiff(path, RGB.astype(np.int16), mask=SEEN)
    return RGB, SEEN


def masked_beside(path):
    geotiff(path, RGB, photometric="RGB", mask=SEEN, inside=False)
    assert path.with_name("a.tif.msk").is_file()
    return RGB, SEEN


def deep_and_masked_beside(path):
    geotiff(
        path,
        np.concatenate([RGB, SEEN[None]]).astype(np.uint16),
        photometric="RGB",
        alpha="YES",
        mask=INDICES > 0,
        inside=False,
    )
    return RGB, INDICES > 0


def on_its_side_and_in_its_place(path):
    """GDAL takes it as stored, and so do the tie points."""
    place = [(33550, 12, 3, (1.0, 1.0, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 5e5, 4e6, 0.0), True)]
    tifffile.imwrite(path, np.moveaxis(RGB, 0, -1), photometric="rgb", extratags=[(274, 3, 1, 6, True), *place])
    return RGB, None


def transparent_png(path):
    Image.fromarray(np.dstack([*RGB, SEEN * np.uint8(255)])).save(path, format="PNG")
    return RGB, SEEN


def deep_transparent_png(path):
    import cv2

    deep = np.dstack([*RGB[::-1], SEEN]).astype(np.uint16)  # OpenCV writes BGR
    path.write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    return RGB, SEEN


FILES = [
    *(palette, palette_with_nodata, from_white, from_white_with_nodata, one_bit, one_bit_from_white, four_bits),
    *(deep_from_white, transparent, deep_and_transparent, masked, deep_and_masked, transparent_png),
    *(deep_transparent_png, masked_beside, deep_and_masked_beside, on_its_side_and_in_its_place),
]


@pytest.mark.parametrize("write", FILES)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_photo_and_a_map_are_one(tmp_path, write: Callable):
    path = tmp_path / "a.tif"
    expected, seen = write(path)
    photo = read_image(path)
    with gdal(), RasterFile(path) as raster:
        chart = raster.read(0, 0, *SHAPE)
        window = raster.read(2, 3, 20, 30)
        quarter = raster.small(25)
    np.testing.assert_array_equal(photo.pixels[: len(expected)], expected)
    np.testing.assert_array_equal(chart.pixels, expected)
    np.testing.assert_array_equal(
        photo.valid if seen is not None else photo.valid is None, True if seen is None else seen
    )
    np.testing.assert_array_equal(chart.valid, True if seen is None else seen)
    np.testing.assert_array_equal(window.pixels, expected[:, 2:22, 3:33])
    np.testing.assert_array_equal(window.valid, chart.valid[2:22, 3:33])
    assert quarter.pixels.shape == (len(expected), 20, 25)
    part = read_image(path, (2, 3, 20, 30))
    np.testing.assert_array_equal(part.pixels, photo.pixels[:, 2:22, 3:33])
    np.testing.assert_array_equal(True if part.valid is None else part.valid, chart.valid[2:22, 3:33])
    assert may_lack_data(path) == (seen is not None)


def test_a_mask_beside_of_another_size(tmp_path):
    geotiff(tmp_path / "a.tif", RGB, photometric="RGB")
    tifffile.imwrite(tmp_path / "a.tif.msk", SEEN[1:].astype(np.uint8))
    with pytest.raises(InputError, match="a.tif.msk is of another size"):
        read_image(tmp_path / "a.tif")


def test_a_palette_keeps_its_place_and_is_resampled_as_colours(tmp_path):
    geotiff(tmp_path / "a.tif", np.array([[0, 1, 2, 3]] * 4, np.uint8), colormap=TABLE)
    with gdal(), rasterio.open(tmp_path / "a.tif") as plain, RasterFile(tmp_path / "a.tif", resolution=1.0) as raster:
        assert raster.georeference["crs"] == plain.crs
        pixels, _ = raster.read(0, 0, 2, 2)
    np.testing.assert_array_equal(pixels[:, 0, 0], [128, 0, 0])  # between black and red, not between 0 and 1
    np.testing.assert_array_equal(pixels[:, 1, 1], [5, 138, 15])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16"])
def test_labels_that_count_from_white_are_numbers_as_stored(tmp_path, dtype):
    mask = INDICES > 1
    tifffile.imwrite(tmp_path / "a.tif", mask.astype(dtype), photometric="miniswhite")
    stored = tifffile.imread(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), stored * (255 if dtype == "bool" else np.uint8(1)))
    assert np.array_equal(stored, mask)
    if dtype == "uint8":
        colours = read_label(tmp_path / "a.tif", colours=True)
        np.testing.assert_array_equal(colours, np.dstack([stored] * 3))


def imagej(path, pixels, axes):
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": axes})


def ome(path, pixels, axes):
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": axes}, photometric="minisblack", tile=(16, 16))


def ome_in_strips(path, pixels, axes):
    options = {"photometric": "minisblack", "rowsperstrip": 7, "compression": "zlib"}
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": axes}, **options)


def pages(path, pixels, axes):
    tifffile.imwrite(path, pixels, photometric="minisblack")


@pytest.mark.parametrize("write", [imagej, ome, ome_in_strips, pages])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pages_of_one_series_are_bands(tmp_path, write, dtype):
    path, pixels = tmp_path / "a.tif", RNG.integers(0, 255, (5, *SHAPE)).astype(dtype)
    write(path, pixels, "CYX")
    np.testing.assert_array_equal(tifffile.imread(path), pixels)
    np.testing.assert_array_equal(read_image(path).pixels, pixels)
    np.testing.assert_array_equal(read_image(path, (5, 6, 20, 30)).pixels, pixels[:, 5:25, 6:36])
    assert image_shape(path) == SHAPE
    with pytest.raises(InputError, match="a.tif has 5 pages, and a mask has one"):
        read_label(path)


@pytest.mark.parametrize("write", [imagej, ome])
@pytest.mark.parametrize("axes, found", [("ZYX", "slices: 3"), ("TYX", "times: 3"), ("ZCYX", "slices: 3, channels: 2")])
def test_a_stack_is_no_image(tmp_path, write, axes, found):
    shape = [{"Z": 3, "T": 3, "C": 2, "Y": SHAPE[0], "X": SHAPE[1]}[axis] for axis in axes]
    write(tmp_path / "a.tif", RNG.integers(0, 255, shape, dtype=np.uint8), axes)
    with pytest.raises(InputError, match=rf"a.tif is a stack \({found}\), and an image is one"):
        read_image(tmp_path / "a.tif")


def test_a_masked_label_is_refused(tmp_path):
    geotiff(tmp_path / "a.tif", INDICES, mask=np.ones(SHAPE, bool))
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), INDICES)
    geotiff(tmp_path / "a.tif", INDICES, mask=SEEN)
    with pytest.raises(InputError, match="a.tif has transparent pixels, which have no class"):
        read_label(tmp_path / "a.tif")
