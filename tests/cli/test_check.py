"""samseg check: everything that is wrong, in words and in pictures, with the exit code that training would have."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.sources import test_labelme


@pytest.fixture
def root(scenes, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(scenes, tmp_path / "mine")


def spoil(root: Path) -> dict[str, str]:
    """What is wrong afterwards, by the file that a user would look for."""
    train = root / "train"
    mask = np.array(Image.open(train / "masks" / "train0.png"))
    mask[10:20, 10:30] = 77
    Image.fromarray(mask).save(train / "masks" / "train0.png")
    (train / "masks" / "train1.png").unlink()
    (train / "images" / "train2.png").write_bytes((train / "images" / "train2.png").read_bytes()[:500])
    Image.new("L", (3, 4)).save(root / "val" / "masks" / "val0.png")
    return {
        "masks/train0.png": "mask value 77 (200 pixels) not declared",
        "images/train1.png": "is without mask",
        "images/train2.png": "cannot be read",
        "masks/val0.png": "is 3 x 4 pixels, but",
    }


def test_sound_data_by_configuration_and_by_folder(command, root, tiny_config):
    given = [str(tiny_config), f"data.root={root}", "data.ignore=[9, 8]"]
    code, out, _ = command("check", *given)
    assert code == 0 and shlex.split(out.rpartition("nothing is wrong; next: samseg train ")[2]) == given
    [sizes] = [line.split("  ") for line in out.splitlines() if line.startswith("width x height")]
    assert [cell.strip() for cell in sizes if cell][1:] == [
        "80 x 47 to 80 x 74",
        "80 x 47 to 69 x 56",
        "80 x 47 to 69 x 56",
    ]
    code, out, _ = command("check", root, "data.source=folders", "data.image_size=32")
    assert code == 0 and not Path("problems.png").exists()
    settings = dict(word.split("=") for word in shlex.split(out.rpartition("samseg train buildings ")[2]))
    assert json.loads(settings.pop("data.classes")) == {"0": 0, "1": 1, "2": 2, "9": 9}
    assert settings == {"data.root": str(root), "data.source": "folders", "data.image_size": "32"}


def test_all_that_is_wrong_is_told_and_drawn_and_training_refuses_it(command, root, tiny_config):
    wrong = spoil(root)
    code, out, _ = command("check", tiny_config, f"data.root={root}", "--out", "wrong.png")
    assert code == 2 and "wrong (4), training would refuse it:" in out
    lines = out.partition("training would refuse it:\n")[2].splitlines()
    for file, reason in wrong.items():
        assert [line for line in lines if file in line and reason in line], file
    assert [line.split() for line in out.splitlines() if line.startswith("images")] == [["images", "3", "2", "2"]]
    sheet = np.asarray(Image.open("wrong.png"))
    magenta = (sheet == (255, 0, 255)).all(-1).sum()
    mask = Image.open(root / "train" / "masks" / "train0.png")
    scale = min(420 / mask.width, 280 / mask.height)
    assert magenta == pytest.approx(200 * scale**2, rel=0.05)
    code, _, stderr = command("train", tiny_config, f"data.root={root}")
    assert code == 2 and "(and 3 more: " in stderr


def test_a_whole_split_that_is_wrong_has_no_picture(command, root, tiny_config):
    shutil.rmtree(root / "val")
    shutil.rmtree(root / "test")
    code, out, _ = command("check", tiny_config, f"data.root={root}")
    assert code == 2 and "there is no test split" in out and not Path("problems.png").exists()
    assert f"  val: no such folder: {root}/val/images" in out


def test_deep_images_and_labels_that_cannot_be_drawn_are_shown_as_far_as_they_can(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = test_labelme.shape("cell", "polygon", [[1, 2], [4, 2]])
    test_labelme.write(tmp_path / "mine", [bad])
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(deep).save(tmp_path / "mine" / "train" / "b.png")
    test_labelme.write(tmp_path / "mine", [test_labelme.CELL], "val")
    code, out, _ = command("check", "mine")
    assert code == 2 and "a polygon has 3 or more" in out and "b.png holds uint16" in out
    assert len(np.unique(np.asarray(Image.open("problems.png"))[..., 0])) > 100  # the grey ramp


def test_what_is_no_data_is_one_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, stderr = command("check", "nowhere")
    assert code == 2 and stderr.startswith("error: no such folder: nowhere; a configuration is a YAML file, or one of")
    Path("empty").mkdir()
    code, _, stderr = command("check", "empty")
    assert code == 2 and stderr.startswith("error: no such folder: empty/train/images") and stderr.count("\n") == 1
