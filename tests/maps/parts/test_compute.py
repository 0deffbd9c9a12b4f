"""Parts of a map: the same pixels however the raster is divided, stopped and resumed."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from samseg.data.raster import Raster
from samseg.maps.parts.plan import MapPlan
from samseg.predict.tiling import blended_rows
from tests.maps.rasters import Contextual, compute, mosaic, noise, pixelwise, store, view, write_raster
from tests.processes import kill, start, wait_until


@pytest.mark.parametrize("shape", [(1, 1), (1, 150), (150, 1), (31, 33), (32, 64), (129, 100)])
def test_network_of_pixels_in_tiles_is_the_network_of_the_whole(tmp_path, shape):
    pixels = noise(*shape)
    raster = write_raster(tmp_path / "a.tif", pixels)
    parts = store(tmp_path / "a.parts", shape)
    compute(parts, raster, pixelwise)
    probabilities = pixelwise(torch.from_numpy(pixels / 255).float()[None])[0].softmax(0)
    assert (mosaic(parts) == probabilities.argmax(0).numpy()).all()
    for band in range(3):
        assert np.abs(mosaic(parts, band + 2) - 254.0 * probabilities[band].numpy()).max() <= 0.501


def blended(pixels: np.ndarray, plan: MapPlan, network) -> torch.Tensor:
    """Probabilities (C, H, W) as photos get them."""

    def read(top, left):
        return view(Raster(pixels[:, top : top + 32, left : left + 32]))

    return torch.cat([p for _, p in blended_rows(plan.tiles, read, network)], dim=1)


@pytest.mark.parametrize("overlap", [0, 20])
def test_any_division_gives_the_pixels_of_the_image_in_memory(tmp_path, overlap):
    pixels = noise(100, 120)
    raster = write_raster(tmp_path / "a.tif", pixels)
    wanted = None
    for side in (24, 64, 512):
        parts = store(tmp_path / f"{side}.parts", (100, 120), side, overlap)
        network = Contextual()
        compute(parts, raster, network)
        assert network.tiles == len(parts.plan.tiles.windows)  # each tile once
        wanted = blended(pixels, parts.plan, network) if wanted is None else wanted
        assert (mosaic(parts) == wanted.argmax(0).numpy()).all()
        for band in range(3):
            assert (mosaic(parts, band + 2) == (wanted[band] * 254).round().byte().numpy()).all()
        assert not list(parts.folder.glob("edges*"))


def test_shards_and_batches_do_not_change_a_pixel(tmp_path):
    raster = write_raster(tmp_path / "a.tif", noise(200, 230))
    layers = []
    for count in (1, 3, 7):
        parts = store(tmp_path / f"{count}.parts", (200, 230))
        for index in range(count, 0, -1):
            compute(parts, raster, Contextual(), parts.plan.shard(index, count), batch=count)
        layers.append(np.stack([mosaic(parts, band) for band in range(1, 5)]))
    assert (layers[0] == layers[1]).all() and (layers[0] == layers[2]).all()


def test_what_is_nodata_is_nodata_and_is_not_run(tmp_path):
    pixels = noise(200, 200)
    rows, columns = np.indices((200, 200))
    pixels[:, columns < rows] = 0
    pixels[0, columns > 150] = 0  # in one band of three: a colour
    raster = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    parts, network = store(tmp_path / "a.parts", (200, 200)), Contextual()
    compute(parts, raster, network)
    assert ((mosaic(parts) == 255) == (columns < rows)).all()
    assert ((mosaic(parts, 3) == 255) == (columns < rows)).all()
    touched = [
        (top, left)
        for top, left in parts.plan.tiles.windows
        if (columns >= rows)[top : top + 32, left : left + 32].any()
    ]
    assert network.tiles == len(touched) < len(parts.plan.tiles.windows)


def test_nothing_but_nodata(tmp_path):
    raster = write_raster(tmp_path / "a.tif", np.zeros((3, 100, 100), np.uint8), nodata=0)
    parts, network = store(tmp_path / "a.parts", (100, 100)), Contextual()
    compute(parts, raster, network)
    assert (mosaic(parts) == 255).all() and network.tiles == 0


class Stuck(Contextual):
    """Answers no more once eight parts are there."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def __call__(self, inputs):
        if written(self.folder) >= 8:
            time.sleep(600)
        return super().__call__(inputs)


def written(folder: Path) -> int:
    return len(list(folder.glob("0*.tif")))


def compute_until_stuck(folder: Path, raster: Path) -> None:
    compute(store(folder, (200, 230), 40), raster, Stuck(folder))


def test_killed_and_resumed_to_the_bit(tmp_path):
    raster = write_raster(tmp_path / "a.tif", noise(200, 230))
    whole = store(tmp_path / "whole.parts", (200, 230), 40)
    compute(whole, raster, Contextual())
    folder = tmp_path / "a.parts"
    process = start(compute_until_stuck, folder, raster, folder=tmp_path)
    wait_until(lambda: written(folder) >= 8, process)
    kill(process)
    killed = store(folder, (200, 230), 40)
    done = 30 - len(killed.missing(range(30)))
    assert 8 <= done < 30
    assert len(compute(killed, raster, network := Contextual())) == 30 - done
    assert network.tiles < len(killed.plan.tiles.windows)
    for band in range(1, 5):
        assert (mosaic(killed, band) == mosaic(whole, band)).all()


def test_an_error_of_the_network_is_raised_and_nothing_half_is_left(tmp_path):
    raster = write_raster(tmp_path / "a.tif", noise(200, 230))
    parts = store(tmp_path / "a.parts", (200, 230))

    def broken(inputs):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        compute(parts, raster, broken)
    assert parts.missing(range(parts.plan.parts)) == list(range(parts.plan.parts))
