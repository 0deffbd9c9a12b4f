"""Exports as they are: recognised, checked and read as the tools mean them."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig, open_source
from samseg.data.recognise import recognise
from samseg.data.target import class_target
from samseg.runs.config.load import load_config
from samseg.runs.config.shipped import shipped_config
from tests.conftest import TINY
from tests.data import exports


@pytest.mark.parametrize(
    "export", exports.EXPORTS, ids=lambda one: one.keywords["ending"] if one in exports.PAIRS else one.__name__
)
def test_an_export_is_recognised_and_read_by_the_command_that_check_prints(command, tmp_path, monkeypatch, export):
    monkeypatch.chdir(tmp_path)
    names = export(Path("mine"))
    code, out, _ = command("check", "mine")
    assert code == 0, out
    words = shlex.split(out.rpartition("samseg train buildings ")[2])
    data = load_config(shipped_config("buildings"), words).data
    splits = {}
    for split in ("train", "val", "test") if "test split; " not in out else ("train", "val"):
        source = open_source(data, split)
        target, called = class_target(data, source), list(data.classes)
        for name in source.names:
            stem = next(one for one in exports.STEMS if name.endswith(one))
            assert splits.setdefault(stem, split) == split
            read = target(source, name)["classes"]
            ignored = read == IGNORE_INDEX
            assert np.array_equal(ignored, exports.VOID & (export is exports.pascal_voc))
            expected = np.array(names)[exports.truth(stem)]
            assert (np.array(called)[np.where(ignored, 0, read)] == expected)[~ignored].all(), (name, called)
    assert set(splits) >= set(exports.STEMS[:5]) and set(splits.values()) >= {"train", "val"}
    assert set(called) == set(names)


def test_a_source_or_its_section_that_is_given_is_not_looked_for(tmp_path):
    exports.yolo_of_label_studio(tmp_path)
    data = DataConfig(root=str(tmp_path), source="folders")
    assert recognise(data) is None and data.source == "folders"
    data = DataConfig(root=str(tmp_path))
    data.coco.annotations = "mine.json"
    assert recognise(data) is None and data.source == "coco"
    data = DataConfig(root=str(tmp_path / "nowhere"))
    assert recognise(data) is None and data.source is None


def lines_alone(root: Path) -> str:
    exports.labelme(root / "train")
    for file in (root / "train").glob("*.json"):
        content = json.loads(file.read_text())
        content["shapes"] = [{"label": "crack", "shape_type": "line", "points": [[1, 2], [5, 9]]}]
        file.write_text(json.dumps(content))
    return "shape 1 (crack) is a line: say how many pixels it takes with data.labelme.line_width"


def boxes_alone(root: Path) -> str:
    exports.yolo_of_label_studio(root)
    for file in (root / "labels").glob("*.txt"):
        file.write_text("0 0.5 0.5 0.2 0.2")
    return ".txt: line 1 is a box (class x y width height); segmentation needs polygons or masks"


def no_objects(root: Path) -> str:
    exports.cvat_coco(root)
    file = root / "annotations" / "instances_default.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    return "none of the 6 images in mine has an object, so there are no classes"


def no_images(root: Path) -> str:
    exports.cvat_coco(root)
    shutil.rmtree(root / "images")
    return "no such folder: mine/images; data.coco.images says where the images lie"


def masks_without_partner(root: Path) -> str:
    exports.pairs(root, "_of_mine.png")
    return "is without mask: every image in images/ needs a file masks/a.* (data.folders.masks)"


def images_alone(root: Path) -> str:
    for stem in exports.STEMS:
        exports.photo(root / "train" / f"{stem}.png")
    exports.write(root / "notes.txt", "to do")
    return "mine holds 6 .png in train, 1 .txt in ., and no images with labels that are recognised: masks called as"


@pytest.mark.parametrize(
    "unusable",
    [lines_alone, boxes_alone, no_objects, no_images, masks_without_partner, images_alone],
    ids=lambda case: case.__name__,
)
def test_where_no_label_is_usable_check_says_what_was_found_and_why(command, tmp_path, monkeypatch, unusable):
    monkeypatch.chdir(tmp_path)
    cause = unusable(Path("mine"))
    code, _, stderr = command("check", "mine")
    assert code == 2 and stderr.startswith("error: ") and stderr.count("\n") == 1
    assert cause in stderr, stderr


def test_the_command_trains_and_the_run_says_what_was_recognised(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exports.roboflow_coco(Path("mine"))
    _, out, _ = command("check", "mine")
    words = shlex.split(out.rpartition("samseg train buildings ")[2])
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY | {"data": {"image_size": 64}}))
    code, _, stderr = command("train", "tiny.yaml", *words, "train.epochs=1", "run_dir=run")
    assert code == 0, stderr
    written = yaml.safe_load(Path("run/config.yaml").read_text())["data"]
    expected = load_config(Path("tiny.yaml"), words).data
    assert written["source"] == expected.source and written["split"] == expected.split
    assert written["coco"]["annotations"] == expected.coco.annotations
    code, out, stderr = command("evaluate", "run", "val")
    assert code == 0 and "cell" in out, stderr
