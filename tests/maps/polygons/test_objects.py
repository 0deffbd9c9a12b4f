"""Objects found and objects there: what is true, missed and false, and the figures of it."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
import yaml

from samseg.inference.predictor import Predictor
from samseg.maps.polygons.areas import labelled
from samseg.maps.polygons.objects import compared, matches
from tests.data.sources.test_maps import box, write_labels
from tests.maps.rasters import noise, write_raster
from tests.random_run import write_run


def test_an_object_is_found_where_half_of_both_is_shared():
    classes, objects = np.full((40, 40), 255), np.zeros((40, 40), int)
    objects[2:12, 2:12], classes[2:12, 2:12] = 7, 1  # found
    objects[2:12, 20:30], classes[2:12, 24:34] = 9, 1  # shares 60 of 140: one missed, one false
    objects[20:30, 2:12], classes[20:30, 5:12] = 4, 1  # shares 70 of 100
    objects[32:36, 32:36] = 5  # missed
    objects[32:36, 38:40] = 5  # ... with its second part
    found = list(compared(classes, objects, 1, "w"))
    assert sorted(one.kind for one in found) == ["false", "missed", "missed", "true", "true"]
    assert sorted(one.iou for one in found if one.kind == "true") == [0.7, 1.0]
    assert {one.polygon.area for one in found if one.kind == "missed"} == {100, 24}
    assert [one.polygon.bounds for one in found if one.kind == "false"] == [(24, 2, 34, 12)]
    row = matches(found).figures()
    assert (row["precision"], row["recall"], row["f1"]) == (2 / 3, 2 / 4, 4 / 7)
    assert row["mean_iou"] == pytest.approx(0.85)


def test_nothing_there_and_nothing_found_has_no_score():
    nothing = list(compared(np.full((5, 5), 255), np.zeros((5, 5), int), 1, "w"))
    assert nothing == [] and matches(nothing).figures()["f1"] is None


def run_on(root: Path, maps: dict, classes: dict) -> Path:
    """A run of random weights whose data are maps."""
    run = write_run(root / "run")
    text = yaml.safe_load((run / "config.yaml").read_text())
    text["data"] |= {"source": "maps", "root": str(root), "maps": maps, "resize": False, "classes": classes}
    (run / "config.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    return run


def test_labels_that_are_a_raster_have_no_objects(tmp_path, command):
    write_raster(tmp_path / "a.tif", noise(40, 40))
    write_raster(tmp_path / "labels.tif", np.ones((1, 40, 40), np.uint8))
    maps = {"test": [{"image": "a.tif", "labels": "labels.tif"}], "order": ["1", "2"]}
    run = run_on(tmp_path, maps, {"background": None, "roof": "1", "tree": "2"})
    code, out, error = command("evaluate", run)
    assert code == 0 and "objects" not in out and not (run / "objects_test.gpkg").exists(), error
    code, _, error = command("evaluate", run, "--objects")
    assert code == 2 and "and those of test are rasters: leave it out" in error and error.count("\n") == 1


def test_a_split_is_scored_and_drawn_in_its_place(tmp_path, command):
    write_raster(tmp_path / "a.tif", noise(120, 150))
    write_labels(tmp_path / "a.geojson", [("house", box(10, 20, 30, 50)), ("house", box(80, 90, 100, 120))])
    maps = {"test": [{"image": "a.tif", "labels": "a.geojson"}], "attribute": "kind", "order": ["house", "tree"]}
    run = run_on(tmp_path, maps, {"background": None, "roof": "house", "tree": "tree"})
    code, out, error = command("evaluate", run)
    assert code == 0, error
    assert "objects (components) at IoU 0.5" in out and str(run / "objects_test.gpkg") in out
    result = json.loads((run / "metrics_test.json").read_text())["test"]["object_scores"]["classes"]
    classes = Predictor.from_run(run)(tmp_path / "a.tif")
    assert result["roof"]["true"] + result["roof"]["false"] == labelled(np.where(classes == 1, 1, 255))[1]
    assert result.keys() == {"roof", "tree"} and result["tree"]["true"] + result["tree"]["missed"] == 0
    assert result["roof"]["true"] + result["roof"]["missed"] == 2
    meta, _, wkb, columns = pyogrio.raw.read(run / "objects_test.gpkg")
    fields = dict(zip(meta["fields"], columns))
    there = shapely.from_wkb(wkb[fields["kind"] == "missed"])
    house = shapely.geometry.shape(box(10, 20, 30, 50))
    assert "32616" in meta["crs"] and len(wkb) == sum(
        sum(row[k] for k in ("true", "missed", "false")) for row in result.values()
    )
    assert any(polygon.equals(house) for polygon in there) == pytest.approx(result["roof"]["missed"] > 0)
