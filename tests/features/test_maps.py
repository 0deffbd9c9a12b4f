"""Features of a fixed grid of windows of a map: computed once, read by the next run."""

import pytest
import yaml

pytest.importorskip("rasterio")

from tests.conftest import TINY
from tests.data.sources.test_maps import box, write_labels
from tests.maps.rasters import noise, write_raster


def test_windows_of_a_grid_are_computed_once(tmp_path, command):
    root = tmp_path / "maps"
    write_raster(root / "a.tif", noise(64, 256))
    write_labels(root / "a.geojson", [("house", box(5, left, 40, left + 30)) for left in range(5, 220, 40)])
    maps = {"train": [{"image": "a.tif", "labels": "a.geojson"}], "split": "blocks", "window": 64, "gap": 0}
    data = {"source": "maps", "root": str(root), "maps": maps | {"attribute": "kind"}, "image_size": 64}
    data |= {"classes": {"background": None, "house": "house"}, "resize": True}
    model = TINY["model"] | {"encoder": "sam-vit_t", "freeze_encoder": True}
    train = TINY["train"] | {"epochs": 1, "cache_features": True, "cache_dir": str(tmp_path / "cache")}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "train": train}))
    said = []
    for run in ("one", "two"):
        code, out, errors = command("train", tmp_path / "c.yaml", f"run_dir={tmp_path / run}")
        assert code == 0, errors
        said.append(next(line for line in out.splitlines() if line.startswith("features:")))
    assert "all" not in said[0] and said[1].startswith("features: all 3 read from")
