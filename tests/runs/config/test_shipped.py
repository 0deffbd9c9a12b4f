"""Every shipped configuration runs as it is, from its data to its masks, only smaller."""

import json
from pathlib import Path

import pytest
from PIL import Image

from samseg.runs.config.shipped import shipped
from samseg.sample.write import write_sample
from tests.encoders.conftest import SMALL

SMALLER = [f"model.encoder={SMALL}", "model.weights=null", "data.image_size=64", "train.epochs=1", "train.workers=0"]
OF_CONFIG = {"promptable": ["prompts.min_pixels=1", "prompts.rounds=1"]}  # at 64 px buildings are small


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "data" / "sample"
    write_sample(folder, train=2, val=1, test=1, size=96)
    return folder


def map_of(folder: Path) -> list[str]:
    """A map of 192 x 192 pixels with four buildings in the place that maps.yaml names; and keys to cut it in four."""
    pytest.importorskip("rasterio")
    from tests.data.sources.test_maps import box, write_labels
    from tests.maps.rasters import noise, write_raster

    folder.mkdir(exist_ok=True)
    write_raster(folder / "city.tif", 40 * noise(192, 192, bands=1).astype("uint16"))
    corners = ((20, 20), (20, 120), (120, 20), (120, 120))
    write_labels(folder / "city.geojson", [("building", box(y, x, y + 30, x + 30)) for y, x in corners])
    return ["data.maps.window=96"]


@pytest.mark.parametrize("name", shipped())
def test_shipped_config_runs(name, sample, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of features
    (tmp_path / "data").symlink_to(sample.parent)  # data.root stays the file's own
    smaller = [*SMALLER, *OF_CONFIG.get(name, []), *(map_of(sample.parent / "maps") if name == "maps" else [])]
    assert command("train", name, *smaller)[0] == 0
    run = tmp_path / "runs" / name
    assert 0 <= json.loads((run / "metrics.json").read_text())["val"]["miou"] <= 1
    assert command("evaluate")[0] == 0
    assert (run / "metrics_test.json").is_file()
    assert command("infer")[0] == 0
    if name == "maps":
        assert (
            json.loads((run / "metrics_test.json").read_text())["test"]["object_scores"]["classes"]["building"][
                "missed"
            ]
            >= 0
        )
        assert (run / "predictions" / "city.tif").is_file()
        return
    image = next((sample / "test" / "images").iterdir())
    with Image.open(next((run / "predictions").rglob(f"{image.stem}.png"))) as mask:
        assert mask.mode == "P" and mask.size == (96, 96)
