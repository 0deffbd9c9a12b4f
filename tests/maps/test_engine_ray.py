"""Maps on Ray: a worker that is killed in the middle changes nothing."""

import os
import signal
from pathlib import Path
from threading import Thread
from time import sleep

import numpy as np
import pytest
import rasterio
import ray
from PIL import Image

from samseg.inference.predictor import Predictor
from samseg.maps.engine_ray import Share, infer_on_ray, spread, start_workers
from samseg.maps.options import MapOptions
from samseg.maps.products import Products
from samseg.maps.run import MapRun, infer_map
from tests.maps.rasters import noise, write_raster
from tests.random_run import write_run


@pytest.fixture(scope="module")
def cluster():
    handler = signal.getsignal(signal.SIGTERM)  # Ray takes it for itself
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # of its workers
        ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
        yield
        ray.shutdown()
    signal.signal(signal.SIGTERM, handler)


def classes(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


def test_a_killed_worker_leaves_the_result_unchanged(cluster, tmp_path):
    run = MapRun(Predictor.from_run(write_run(tmp_path / "run"), "cpu", tile=True), tmp_path / "run")
    raster = write_raster(tmp_path / "a.tif", noise(2100, 700))
    options = MapOptions()
    infer_map(run, raster, tmp_path / "one", options)
    out = tmp_path / "two"
    workers = start_workers(run.path, out, options, workers=2, device="cpu")
    victim = ray.get(workers[0].pid.remote())
    store = run.store(raster, out, options)

    def kill() -> None:
        while not list(store.folder.glob("edges-*")) and not list(store.folder.glob("0*.tif")):
            sleep(0.01)
        os.kill(victim, signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    parts = [store.plan.shard(index, store.plan.parts) for index in range(1, store.plan.parts + 1)]
    done = list(spread(workers, [Share([raster], numbers) for numbers in parts]))
    assert [one.error for one in done] == [None] * len(done)
    killer.join()
    assert ray.get(workers[0].pid.remote()) != victim, "it was killed, and started again"
    Products(store, out, options).write()
    np.testing.assert_array_equal(classes(out / "a.tif"), classes(tmp_path / "one" / "a.tif"))


def test_maps_and_photos_and_one_that_cannot_be_read(cluster, tmp_path, capsys):
    run = MapRun(Predictor.from_run(write_run(tmp_path / "run"), "cpu", tile=True), tmp_path / "run")
    maps = [write_raster(tmp_path / f"{name}.tif", noise(90, 70)) for name in "ab"]
    maps[1].write_bytes(maps[1].read_bytes()[:6000])
    photo = write_raster(tmp_path / "c.png", noise(40, 50), driver="PNG", crs=None, transform=None)
    run.predictor.tta = "flips"
    failed = infer_on_ray(run, maps, [photo], tmp_path / "out", MapOptions(), "cpu", workers=1)
    assert failed == 1 and "b.tif cannot be read" in capsys.readouterr().err
    assert {"a.tif", "c.png", "legend.png"} <= set(os.listdir(tmp_path / "out"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "c.png")), run.predictor(photo))
    np.testing.assert_array_equal(classes(tmp_path / "out" / "a.tif"), run.predictor(maps[0]))
