"""What the tests of maps share: rasters made in a moment, networks whose answer is known, and the way through both."""

from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import Affine
from torch import Tensor

from samseg.data.formats.georaster import RasterFile
from samseg.data.raster import Raster
from samseg.maps.parts.compute import compute_parts
from samseg.maps.parts.plan import MapPlan
from samseg.maps.parts.store import PartStore
from samseg.predict.tiling import TilePlan

NORTH_UP = Affine(0.5, 0, 733601, 0, -0.5, 3725139)
CLASSES = ["ground", "roof", "tree"]


def noise(height: int, width: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (bands, height, width), dtype=np.uint8)


def write_two_parts(path: Path, width: int = 64) -> Path:
    """A raster of two parts (of three classes, 2048 rows each), with data about their border and at the top alone."""
    pixels = np.zeros((3, 2100, width), np.uint8)
    for top, bottom in ((0, 30), (2010, 2090)):
        pixels[:, top:bottom] = noise(bottom - top, width, seed=top)
    return write_raster(path, pixels, nodata=0)


def write_raster(path: Path, pixels: np.ndarray, **profile) -> Path:
    """(C, H, W) as a GeoTIFF, in UTM unless the profile says otherwise."""
    place = {"driver": "GTiff", "crs": "EPSG:32616", "transform": NORTH_UP} | profile
    shape = dict(zip(("count", "height", "width"), pixels.shape))
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", dtype=pixels.dtype, **shape, **place) as raster:
        raster.write(pixels)
    return path


def view(tile: Raster) -> Tensor:
    """A tile of 32 px from pixels that may be fewer."""
    tensor = torch.from_numpy(tile.pixels / 255).float()
    return torch.nn.functional.pad(tensor, (0, 32 - tensor.shape[2], 0, 32 - tensor.shape[1]))


def pixelwise(inputs: Tensor) -> Tensor:
    """Three bands are three classes' logits: what a pixel is does not depend on its tile."""
    return inputs * 8


class Contextual:
    """A network that sees neighbours, so that a pixel's answer depends on its tile; counts the tiles it was given."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(3, 3, 9, 9, generator=generator)
        self.tiles = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        self.tiles += len(inputs)
        return torch.nn.functional.conv2d(inputs, self.weight, padding=4)


def store(folder: Path, shape: tuple[int, int], side: int = 64, overlap: int = 8, digest: str = "a") -> PartStore:
    """Parts of ``side`` px from tiles of 32 px."""
    plan = MapPlan(TilePlan(*shape, 32, overlap), side)
    place = {"crs": "EPSG:32616", "transform": NORTH_UP}
    made = PartStore(folder, plan, CLASSES, digest, {"raster": "a.tif"}, place, probabilities="uint8")
    made.prepare()
    return made


def compute(parts: PartStore, raster: Path, network, numbers=None, **options) -> list[int]:
    numbers = range(parts.plan.parts) if numbers is None else numbers
    return list(compute_parts(parts, numbers, lambda: RasterFile(raster), view, network, **options))


def mosaic(parts: PartStore, band: int = 1) -> np.ndarray:
    """All parts as one array; a pixel that two parts wrote, or none, fails."""
    whole = np.zeros(parts.plan.shape, np.uint8)
    times = np.zeros(parts.plan.shape, int)
    for number in range(parts.plan.parts):
        box = parts.plan.part(number)
        place = slice(box.top, box.bottom), slice(box.left, box.right)
        whole[place] = parts.read(number, band)
        times[place] += 1
    assert (times == 1).all()
    return whole
