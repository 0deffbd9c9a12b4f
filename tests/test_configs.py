"""Every shipped configuration runs as it is, from its data to its masks, only smaller."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from samseg.config import load_config
from samseg.data.sample import write_sample

ROOT = Path(__file__).parents[1]
SMALLER = ["model.weights=null", "data.image_size=64", "train.epochs=1", "train.workers=0"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "data" / "sample"
    write_sample(folder, train=2, val=1, test=1, size=96)
    return folder


def tool(name: str, *arguments, cwd: Path) -> str:
    done = subprocess.run([sys.executable, ROOT / "tools" / name, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda f: f.stem)
def test_shipped_config_runs(config, sample, tmp_path):
    (tmp_path / "data").symlink_to(sample.parent)  # data.root stays the file's own
    has_adapter = load_config(config).model.adapter.name is not None  # then it runs with the encoder it names
    tool("train.py", config, *SMALLER, *([] if has_adapter else ["model.encoder=sam-vit_t"]), cwd=tmp_path)
    run = tmp_path / "runs" / config.stem
    assert 0 <= json.loads((run / "metrics.json").read_text())["val"]["miou"] <= 1
    tool("evaluate.py", cwd=tmp_path)
    assert (run / "metrics_test.json").is_file()
    tool("infer.py", cwd=tmp_path)
    image = next((sample / "test" / "images").iterdir())
    with Image.open(next((run / "predictions").rglob(f"{image.stem}.png"))) as mask:
        assert mask.mode == "P" and mask.size == (96, 96)
