"""Tests of maps are left out where rasterio is not installed, those of the engine where ray is not."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("ray") else ["test_engine_ray.py"]
if not find_spec("rasterio"):
    collect_ignore_glob = ["test_*.py"]
