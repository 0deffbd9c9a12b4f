"""samseg evaluate --objects: photos whose labels tell objects apart."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.data.sources import test_coco, test_labelme
from tests.inference.objects.test_files import promptable
from tests.models.sam.reference import picture
from tests.random_run import write_run


def pointed(run, root):
    text = yaml.safe_load((run / "config.yaml").read_text())
    text["data"]["root"] = str(root)
    (run / "config.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    return run


def figures(run) -> dict:
    return json.loads((run / "metrics_test.json").read_text())["test"]


def test_what_a_run_finds_is_compared_class_by_class(tmp_path, command):
    """Of three images one holds what is found in it, one the same of the other classes, and one nothing."""
    run, test = write_run(tmp_path / "run", root=str(tmp_path / "data")), tmp_path / "data" / "test"
    for kind in ("images", "masks", "instances"):
        (test / kind).mkdir(parents=True)
    for name, size in (("a", (60, 80)), ("b", (50, 40)), ("c", (40, 70))):
        Image.fromarray(picture(*size)).save(test / "images" / f"{name}.png")
    for kind, given in (("masks", ()), ("instances", ("--objects",))):
        assert command("infer", run, test / "images", "--out", tmp_path / kind, *given)[0] == 0
        for name in "abc":
            shutil.copy(tmp_path / kind / f"{name}.png", test / kind)
    classes = np.array(Image.open(test / "masks" / "b.png"))
    Image.fromarray(np.uint8([0, 2, 1])[classes]).save(test / "masks" / "b.png")
    Image.fromarray(np.zeros((40, 70), np.uint16)).save(test / "instances" / "c.png")
    found = json.loads((tmp_path / "instances" / "annotations.json").read_text())["annotations"]
    roofs, trees = ([sum(one["image_id"] == i and one["category_id"] == k for one in found) for i in (1, 2, 3)]
                    for k in (2, 3))  # fmt: skip
    assert min(sum(roofs), sum(trees), roofs[0] + trees[0]) > 0
    code, out, error = command("evaluate", run, "--objects")
    assert code == 0 and "objects (components) at IoU 0.5" in out, error
    result = figures(run)["object_scores"]["classes"]
    assert result.keys() == {"roof", "tree"}
    for name, mine, others in (("roof", roofs, trees), ("tree", trees, roofs)):
        counts = tuple(result[name][kind] for kind in ("true", "false", "missed"))
        assert counts == (mine[0], mine[1] + mine[2], others[1]), name
        assert result[name]["mean_iou"] == (1 if mine[0] else None)
    report = (run / "report.html").read_text()
    assert "Objects (components) at IoU 0.5" in report and f"<td>{result['tree']['false']}</td>" in report
    shutil.rmtree(test / "instances")
    code, _, error = command("evaluate", run, "--objects")
    assert code == 2 and "labels tell apart, and" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "source, module, labels",
    [("coco", test_coco, test_coco.ANNOTATIONS), ("labelme", test_labelme, test_labelme.SHAPES)],
)
def test_objects_of_labels_with_names(source, module, labels, tmp_path, command):
    """Two cells and a plate. The class that is no object is that of null, wherever it stands."""
    run = write_run(tmp_path / "run", root=str(tmp_path))
    module.write(tmp_path, labels, "test")
    text = yaml.safe_load((run / "config.yaml").read_text())
    text["data"] |= {"source": source, "classes": {"cell": "cell", "plate": "plate", "nothing": None}}
    (run / "config.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    code, out, error = command("evaluate", run, "--objects", "components")
    assert code == 0 and "objects (components) at IoU 0.5" in out, error
    rows = figures(run)["object_scores"]["classes"]
    assert {name: row["true"] + row["missed"] for name, row in rows.items()} == {"cell": 2, "plate": 1}


@pytest.mark.parametrize("none, way, names", [(0.5, "prompts", {"cell"}), (0.0, "amg", {"object"})])
def test_objects_of_a_promptable_run_beside_its_own_count_of_them(none, way, names, tmp_path, command):
    run, test = pointed(promptable(tmp_path / "run", none), tmp_path / "data"), tmp_path / "data" / "test"
    for kind in ("images", "masks", "instances"):
        (test / kind).mkdir(parents=True)
    Image.fromarray(picture(50, 40)).save(test / "images" / "a.png")
    objects = np.zeros((50, 40), np.uint16)
    objects[5:20, 5:20], objects[30:45, 10:30] = 1, 2
    Image.fromarray(objects).save(test / "instances" / "a.png")
    Image.fromarray(255 * (objects > 0).astype(np.uint8)).save(test / "masks" / "a.png")
    code, out, error = command("evaluate", run, "--objects")
    assert code == 0 and f"objects ({way}) at IoU 0.5" in out, error
    found = figures(run)
    (row,) = found["object_scores"]["classes"].values()
    assert found["objects"] == 2 and found["object_scores"]["classes"].keys() == names
    assert row["true"] + row["missed"] == 2
