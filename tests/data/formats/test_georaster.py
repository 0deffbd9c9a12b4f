"""Rasters shrunk to be looked at: in pieces, each pixel from where it lies, and what is damaged left out alone."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio")
import rasterio

from samseg.data.formats.georaster import RasterFile, gdal


def write(path: Path, pixels: np.ndarray, **layout) -> Path:
    shape = dict(zip(("count", "height", "width"), pixels.shape))
    place = dict(crs="EPSG:32616", transform=rasterio.Affine(0.5, 0, 733601, 0, -0.5, 3725139), nodata=0)
    with rasterio.open(path, "w", driver="GTiff", dtype=pixels.dtype, **shape, **place, **layout) as raster:
        raster.write(pixels)
    return path


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}], ids=["rows", "tiles"])
def test_each_pixel_is_one_of_its_own_square(tmp_path, layout):
    pixels = np.random.default_rng(0).integers(1, 255, (2, 700, 1000), dtype=np.uint8)
    pixels[:, 200:300, 400:500] = 0
    path = write(tmp_path / "a.tif", pixels, **layout)
    with gdal(), RasterFile(path) as raster:
        small, valid = raster.small(200)
        whole = raster.small(1000)
    squares = pixels.reshape(2, 140, 5, 200, 5)
    assert small.shape == (2, 140, 200) and (squares == small[:, :, None, :, None]).any(axis=(2, 4)).all()
    np.testing.assert_array_equal(valid, (small != 0).any(axis=0))
    np.testing.assert_array_equal(whole.pixels, pixels)


def test_only_the_damaged_piece_is_left_out(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (1, 512, 512), dtype=np.uint8)
    path = write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    with gdal(), RasterFile(path) as raster:
        small, valid = raster.small(512)
    assert (~valid).sum() == 128 * 128
    np.testing.assert_array_equal(small[0][valid], pixels[0][valid])
