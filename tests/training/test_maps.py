"""Training on maps, whose reading processes begin while GDAL is open here and a thread reads."""

import os
import sys
import threading

import pytest
import yaml

pytest.importorskip("rasterio")

from samseg.data.formats.georaster import RasterFile, gdal
from samseg.runs.config.load import load_config
from samseg.training.run import train
from tests.conftest import TINY
from tests.data.sources.test_maps import box, write_labels
from tests.maps.rasters import noise, write_raster
from tests.training.test_trainer import assert_same_run


@pytest.fixture
def reading(tmp_path):
    """A raster that a thread opens and reads, again and again."""
    path, over = write_raster(tmp_path / "read.tif", noise(300, 300)), threading.Event()

    def read() -> None:
        while not over.wait(0.002):
            with gdal(), RasterFile(path) as raster:
                raster.read(0, 0, 300, 300)

    thread = threading.Thread(target=read)
    thread.start()
    yield
    over.set()
    thread.join(60)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fork server is Linux'")
def test_reading_processes_beside_a_thread_that_reads_change_nothing(tmp_path, reading):
    """They are no forks of this process, which could inherit a lock that the thread holds."""
    forks = []
    os.register_at_fork(before=lambda: forks.append(threading.current_thread()))
    root = tmp_path / "data"
    write_raster(root / "a.tif", noise(64, 128))
    write_labels(root / "a.geojson", [("house", box(10, left, 40, left + 30)) for left in (10, 60)])
    entry = [{"image": "a.tif", "labels": "a.geojson"}]
    maps = {"train": entry, "val": entry, "window": 64, "attribute": "kind"}
    data = {"source": "maps", "root": str(root), "classes": {"none": None, "house": "house"}, "maps": maps}
    (tmp_path / "maps.yaml").write_text(yaml.safe_dump(TINY | {"data": data | {"image_size": 64}}))
    runs = [
        train(load_config(tmp_path / "maps.yaml", [f"train.workers={n}", f"run_dir={tmp_path / f'run{n}'}"]), "maps")
        for n in (0, 2)
    ]
    assert_same_run(*runs)
    assert not forks
