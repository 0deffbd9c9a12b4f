"""What is made of a map's parts: killed while it is written, it is made again, and nothing stays behind."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio

from samseg.errors import InputError
from samseg.maps.merge import merge
from samseg.maps.options import MapOptions, PolygonOptions
from samseg.maps.parts.store import PartStore
from samseg.maps.products import Products
from samseg.maps.run import infer_map, infer_shard
from tests.maps.rasters import write_two_parts


def content(folder: Path) -> tuple:
    """Pixels and polygons of a map in a folder."""
    found = []
    for name in ("a.tif", "a_probabilities.tif"):
        with rasterio.open(folder / name) as raster:
            found.append(raster.read())
    _, _, polygons, columns = pyogrio.raw.read(folder / "a.gpkg")
    return (*found, polygons, *columns)


def killed(do: Callable[[], object]) -> None:
    """Call ``do`` in a copy of this process, which is to end by SIGKILL."""
    child = os.fork()
    if not child:
        try:
            do()
        finally:
            os._exit(1)  # it was not killed
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def kill_at(call: int, method: Callable) -> Callable:
    """``method``, in which the process is killed at so many calls."""
    calls = iter(range(1, call + 1))

    def counting(*arguments, **keywords):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **keywords)

    return counting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_while_merging_it_is_merged_by_the_same_command(run, tmp_path, monkeypatch):
    """In the probabilities, the classes, the polygons, before the map has its name, and while the parts are removed."""
    raster = write_two_parts(tmp_path / "a.tif")
    options = MapOptions(probabilities="uint8", polygons=PolygonOptions("gpkg", min_area=4), cog=True)
    whole, out = tmp_path / "whole", tmp_path / "out"
    infer_shard(run, raster, whole, options, 1, 1)
    parts = shutil.copytree(whole / "a.parts", out / "a.parts")
    merge(whole / "a.parts", cog=True)
    layers = 3 * 2  # reads of the probabilities of two parts
    places = [(PartStore, "read", call) for call in (2, layers + 2, layers + 2 + 3)] + [(os, "replace", 2)]
    for owner, name, call in places:  # of the probabilities, of the classes, of the polygons' class and confidence
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, kill_at(call, getattr(owner, name)))
            killed(lambda: merge(parts, cog=True))
        assert not (out / "a.tif").exists()
        assert [file for file in out.iterdir() if file.name.startswith(".")]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", kill_at(1, shutil.rmtree))
        killed(lambda: merge(parts, cog=True))
    assert (out / "a.tif").exists() and parts.is_dir()
    merge(parts, cog=True)
    for one, other in zip(content(whole), content(out), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {file.name for file in out.iterdir()} == {file.name for file in whole.iterdir()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_second_process_is_told_of_the_first_until_that_is_killed(run, tmp_path):
    raster, out, options = write_two_parts(tmp_path / "a.tif"), tmp_path / "out", MapOptions()
    infer_shard(run, raster, out, options, 1, 1)
    first = os.fork()
    if not first:
        Products.write = lambda self: (tmp_path / "busy").touch() or time.sleep(99)
        infer_map(run, raster, out, options)
        os._exit(1)
    try:
        while not (tmp_path / "busy").exists():
            assert os.waitpid(first, os.WNOHANG) == (0, 0)
            time.sleep(0.01)
        for second in (lambda: infer_map(run, raster, out, options), lambda: merge(out / "a.parts")):
            with pytest.raises(InputError, match=rf"a.tif is in use by process {first} on .*, or name another --out$"):
                second()
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    infer_map(run, raster, out, options)
    assert {file.name for file in out.iterdir()} == {"a.tif", "a_overlay.jpg", "legend.png"}
