"""Tests of maps are left out where rasterio is not installed, those of the engine where ray is not."""

from importlib.util import find_spec

import pytest

from tests.random_run import write_run

collect_ignore = [] if find_spec("ray") else ["test_engine_ray.py"]
if not find_spec("rasterio"):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A `MapRun` of three classes, with random weights."""
    from samseg.inference.predictor import Predictor
    from samseg.maps.run import MapRun

    path = write_run(tmp_path_factory.mktemp("runs") / "run")
    return MapRun(Predictor.from_run(path, "cpu", tile=True), path)
