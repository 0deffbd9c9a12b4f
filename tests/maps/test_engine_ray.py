"""Maps on Ray: a worker that is killed in the middle changes nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import rasterio
import ray
from PIL import Image

from samseg.common import machine
from samseg.common.errors import InputError
from samseg.inference.predictor import Predictor
from samseg.maps.engine_ray import infer_on_ray
from samseg.maps.options import MapOptions
from samseg.maps.run import MapRun, infer_map
from tests.maps.rasters import noise, write_raster
from tests.random_run import write_run

pytestmark = pytest.mark.timeout(600)  # each worker imports torch anew, which takes minutes where much else is going on


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


def busy_workers() -> list[int]:
    """Processes of our cluster, children of its raylet, that Ray has named after what they do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (process / "cmdline").read_bytes(), (process / "stat").read_text().rsplit(") ")[1].split()[1]
            ours = (Path("/proc") / parent / "stat").read_text().rsplit(") ")[1].split()[1] == str(os.getpid())
        except OSError:
            continue  # it has ended
        if name.startswith(b"ray::Worker.do") and ours:
            found.append(int(process.name))
    return found


@contextmanager
def one_is_killed(parts: Path) -> Iterator[list[int]]:
    """Kills a worker that is at work once something lies in ``parts``; yields the list of those that were."""
    killed, over = [], Event()

    def kill() -> None:
        while not over.wait(0.005):
            if list(parts.glob("edges-*")) + list(parts.glob("0*.tif")) and (busy := busy_workers()):
                os.kill(busy[0], signal.SIGKILL)
                killed.append(busy[0])
                return

    killer = Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join(60)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers under /proc")
def test_a_killed_worker_leaves_the_result_unchanged_and_one_bad_map_the_others(cluster, tmp_path, capsys):
    path = write_run(tmp_path / "run", encoder="sam-vit_t")
    precision = "bf16" if machine.cpu_has_bfloat16() else "fp32"
    run = MapRun(Predictor.from_run(path, "cpu", tile=True, tta="flips", precision=precision), path)
    maps = [write_raster(tmp_path / "a.tif", noise(2100, 60)), write_raster(tmp_path / "b.tif", noise(90, 70))]
    maps[1].write_bytes(maps[1].read_bytes()[:6000])
    photo = write_raster(tmp_path / "c.png", noise(40, 50), driver="PNG", crs=None, transform=None)
    infer_map(run, maps[0], tmp_path / "one", MapOptions())
    out = tmp_path / "two"
    with one_is_killed(out / "a.parts") as killed:
        assert infer_on_ray(run, maps, [photo], out, MapOptions(), "cpu", workers=3) == 1
    said = capsys.readouterr().err
    assert killed and "b.tif cannot be read" in said and "room for 2 workers, not 3" in said
    np.testing.assert_array_equal(classes(out / "a.tif"), classes(tmp_path / "one" / "a.tif"))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "c.png")), run.predictor(photo))
    assert {"a.tif", "c.png", "legend.png"} <= set(os.listdir(out)) and not (out / "a.parts").exists()


def test_what_keeps_a_worker_from_beginning_is_said_in_its_words(cluster, tmp_path):
    path = write_run(tmp_path / "run")
    raster = write_raster(tmp_path / "a.tif", noise(70, 90))
    run = MapRun(Predictor.from_run(path, "cpu", tile=True), path)
    with pytest.raises(InputError, match="^a worker cannot begin: device nonsense cannot be used .*"):
        infer_on_ray(run, [raster], [], tmp_path / "out", MapOptions(), "nonsense", workers=1)
