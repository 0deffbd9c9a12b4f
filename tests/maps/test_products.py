"""What is made of a map's parts: killed while it is written, it is made again, and nothing stays behind."""

import os
import pkgutil
import shutil
import signal
import time
from itertools import count
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio

from samseg.common.errors import InputError
from samseg.maps.options import MapOptions, PolygonOptions
from samseg.maps.products import Products, merge
from samseg.maps.run import MapRun, infer_map, infer_shard
from tests.maps.rasters import write_two_parts
from tests.processes import first_line, kill, start


def content(folder: Path) -> tuple:
    """Pixels and polygons of a map in a folder."""
    found = []
    for name in ("a.tif", "a_probabilities.tif"):
        with rasterio.open(folder / name) as raster:
            found.append(raster.read())
    _, _, polygons, columns = pyogrio.raw.read(folder / "a.gpkg")
    return (*found, polygons, *columns)


def merge_until_killed(parts: Path, name: str, call: int) -> None:
    """Merge, and be killed at so many calls of a function."""
    function, calls = pkgutil.resolve_name(name), count(1)

    def counting(*arguments, **keywords):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)

    pytest.MonkeyPatch().setattr(name, counting)
    merge(parts, cog=True)


def killed(*arguments, folder: Path) -> None:
    """`merge_until_killed` in a process of its own."""
    process = start(merge_until_killed, *arguments, folder=folder)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, (folder / "output.txt").read_text()


def test_killed_while_merging_it_is_merged_by_the_same_command(run, tmp_path):
    """In the probabilities, the classes, the polygons, before the map has its name, and while the parts are removed."""
    raster = write_two_parts(tmp_path / "a.tif")
    options = MapOptions(probabilities="uint8", polygons=PolygonOptions("gpkg", min_area=4), cog=True)
    whole, out = tmp_path / "whole", tmp_path / "out"
    infer_shard(run, raster, whole, options, 1, 1)
    parts = shutil.copytree(whole / "a.parts", out / "a.parts")
    merge(whole / "a.parts", cog=True)
    layers = 3 * 2  # reads of the probabilities of two parts; those of the classes and of the polygons follow
    reads = (2, layers + 2, layers + 2 + 3)
    for name, call in [*(("samseg.maps.parts.store.PartStore.read", call) for call in reads), ("os.replace", 2)]:
        killed(parts, name, call, folder=tmp_path)
        assert not (out / "a.tif").exists()
        assert [file for file in out.iterdir() if file.name.startswith(".")]
    killed(parts, "shutil.rmtree", 1, folder=tmp_path)
    assert (out / "a.tif").exists() and parts.is_dir()
    merge(parts, cog=True)
    for one, other in zip(content(whole), content(out), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {file.name for file in out.iterdir()} == {file.name for file in whole.iterdir()}


def hold_the_map(run: MapRun, raster: Path, out: Path) -> None:
    Products.write = lambda self: print("busy", flush=True) or time.sleep(600)
    infer_map(run, raster, out, MapOptions())


def test_a_second_process_is_told_of_the_first_until_that_is_killed(run, tmp_path):
    raster, out, options = write_two_parts(tmp_path / "a.tif"), tmp_path / "out", MapOptions()
    infer_shard(run, raster, out, options, 1, 1)
    first = start(hold_the_map, run, raster, out, folder=tmp_path)
    assert first_line(first, tmp_path) == "busy"
    for second in (lambda: infer_map(run, raster, out, options), lambda: merge(out / "a.parts")):
        with pytest.raises(InputError, match=rf"a.tif is in use by process {first.pid} on .*, or name another --out$"):
            second()
    kill(first)
    infer_map(run, raster, out, options)
    assert {file.name for file in out.iterdir()} == {"a.tif", "a_overlay.jpg", "legend.png"}
