"""Disks that are too small: told before, and where they fill up nevertheless nothing is half written."""

import math
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from PIL import Image

from samseg.common.errors import InputError
from samseg.common.files import WriteError
from samseg.maps.disk import ROOM, bytes_wanted, written
from samseg.maps.options import MapOptions, PolygonOptions
from samseg.maps.run import infer_map
from tests.faults import small_disk
from tests.maps.rasters import noise, write_raster


def check_whole(file: Path) -> None:
    """Raises for a part of a file."""
    assert not file.name.startswith(".")
    if file.suffix == ".tif":
        with rasterio.open(file) as raster:
            raster.read()
    elif file.suffix in (".png", ".jpg"):
        Image.open(file).load()
    elif file.suffix == ".gpkg":
        pyogrio.raw.read(file)


LAYERS = MapOptions(probabilities="uint8", polygons=PolygonOptions("gpkg"))


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> tuple[Path, int]:
    """A raster, and the bytes that lie on the disk in the end."""
    folder = tmp_path_factory.mktemp("whole")
    raster = write_raster(folder / "a.tif", noise(100, 300))
    infer_map(run, raster, folder / "out", LAYERS)
    return raster, sum(file.stat().st_size for file in (folder / "out").iterdir())


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_disk_that_fills_up_holds_whole_files_alone(run, whole, tmp_path, monkeypatch, share):
    """Wherever it happens: in a part, in the probabilities, in the polygons."""
    raster, needed = whole
    monkeypatch.setattr("samseg.maps.run.check_space", lambda *_: None)  # others fill the disk after it
    with small_disk(tmp_path / "disk", int((2**20 + share * needed) / 1024)) as disk:
        with pytest.raises(InputError, match="cannot be written.*(No space left on device|disk is full)") as error:
            infer_map(run, raster, disk / "out", LAYERS)
        assert "\n" not in str(error.value)
        files = [file for file in (disk / "out").rglob("*") if file.is_file()]
        assert not [file for file in files if file.name == "a.tif"]
        for file in files:
            check_whole(file)


def test_the_room_that_a_map_may_take_is_what_it_takes_and_not_much_more(run, tmp_path):
    """The estimate against the most that lies on the disk at a time, with all layers, in two rows of parts."""
    raster, options = write_raster(tmp_path / "a.tif", noise(2100, 64)), MapOptions(probabilities="uint8")
    store = run.store(raster, tmp_path, options)
    wanted = bytes_wanted(store.plan, store.bands, 3, store.plan.parts, 1.0, cog=False)
    with small_disk(tmp_path / "large", math.ceil(wanted / 1024) + 4) as disk:  # the lock has a block of its own
        infer_map(run, raster, disk / "out", options)
        made = sum(file.stat().st_size for file in (disk / "out").iterdir())
    assert wanted - ROOM < 3 * made  # the parts are in it, too
    with small_disk(tmp_path / "small", int(wanted / 1024) - 8) as disk:
        with pytest.raises(InputError, match=r"MB free, and 0.134 million pixels may take .* MB; make room"):
            infer_map(run, raster, disk / "out", options)
        assert not list((disk / "out").iterdir())


def test_nodata_takes_no_room(run, tmp_path):
    pixels = np.zeros((3, 1500, 1500), np.uint8)
    pixels[:, :100, :100] = noise(100, 100)
    raster = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    with small_disk(tmp_path / "disk", 2400) as disk:  # the estimate for as many valid pixels is 1.6 MB and the reserve
        infer_map(run, raster, disk / "out", MapOptions())


def test_a_library_that_says_nothing_of_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", ROOM // 1024 + 76) as disk:
        with pytest.raises(WriteError, match="No space left on device"), written(disk / "a.tif") as temporary:
            temporary.write_bytes(bytes(2**17))
        assert not list(disk.iterdir())
