"""FiftyOne's labels as samseg reads them; a dataset of its database where one is named."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from samseg.common.errors import ConfigError, InputError
from samseg.data.sources.fiftyone import FiftyOneConfig, FiftyOneSource, objects_of
from tests.data.sources.contract import SourceContract

fol = pytest.importorskip("fiftyone.core.labels", exc_type=ImportError)
DATABASE = pytest.mark.skipif(
    "FIFTYONE_DATABASE_URI" not in os.environ, reason="FIFTYONE_DATABASE_URI names no database"
)
SHAPE = (40, 56)


def detection(label: str, top: int, left: int, mask: np.ndarray):
    height, width = mask.shape
    box = [left / SHAPE[1], top / SHAPE[0], width / SHAPE[1], height / SHAPE[0]]
    return fol.Detection(label=label, bounding_box=box, mask=mask)


def blob(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) > 0.4


def drawn(label, names=None) -> dict[str, np.ndarray]:
    return {called: rle.decode(one) > 0 for called, one in objects_of(label, SHAPE, names or {}, "data.field of a.png")}


def test_detections_lie_where_fiftyone_draws_them():
    found = [detection("cell", 3, 5, blob(0, 9, 14)), detection("plate", 30, 40, blob(1, 10, 16))]
    masks = drawn(fol.Detections(detections=found))
    assert list(masks) == ["cell", "plate"]
    for one in found:
        assert np.array_equal(masks[one.label], one.to_segmentation(frame_size=SHAPE[::-1]).mask > 0)


def test_a_mask_of_another_size_than_its_box_fills_it():
    one = fol.Detection(label="cell", bounding_box=[0.25, 0.25, 0.5, 0.5], mask=np.ones((3, 4), bool))
    truth = np.zeros(SHAPE, bool)
    truth[10:30, 14:42] = True
    assert np.array_equal(drawn(fol.Detections(detections=[one]))["cell"], truth)
    over = fol.Detection(label="cell", bounding_box=[-0.25, -0.5, 0.5, 1.0], mask=np.ones((3, 4), bool))
    assert drawn(over)["cell"].sum() == 20 * 14  # what lies in the image


def test_polylines_lie_where_fiftyone_draws_them():
    points = [[(0.1, 0.1), (0.8, 0.2), (0.5, 0.9)]]
    one = fol.Polyline(label="roof", points=points, closed=True, filled=True)
    mask, theirs = drawn(fol.Polylines(polylines=[one]))["roof"], one.to_segmentation(frame_size=SHAPE[::-1]).mask > 0
    border = cv2.morphologyEx(theirs.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert mask.any() and not (mask ^ theirs)[~border].any()


def test_a_segmentations_values_are_called_as_its_targets():
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:9], mask[20:, 7:], mask[30, 30] = 1, 7, 9
    found = drawn(fol.Segmentation(mask=mask), {1: "road", 7: "roof"})
    assert {called: int(one.sum()) for called, one in found.items()} == {
        "road": (mask == 1).sum(), "roof": (mask == 7).sum(), "9": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    "label, words",
    [
        (lambda: fol.Classification(label="x"), "is of Classification"),
        (lambda: fol.Detections(detections=[fol.Detection(label="x", bounding_box=[0, 0, 1, 1])]), "without a mask"),
        (lambda: fol.Segmentation(mask=np.ones((5, 7), np.uint8)), "is of 7 x 5 pixels, its image of 56 x 40"),
        (lambda: fol.Segmentation(mask=np.ones((*SHAPE, 3), np.uint8)), "in colours"),
        (lambda: fol.Detection(label="x", bounding_box=[0, float("nan"), 1, 1], mask=blob(0, 2, 2)), "shares of"),
        (lambda: fol.Polyline(label="x", points=[[(0, 0), (1e9, 0), (1, 1)]]), "far outside"),
        (lambda: fol.Detections(detections=[detection(None, 0, 0, blob(0, 2, 2))]), "without a label"),
    ],
)
def test_labels_that_are_no_masks(label, words):
    with pytest.raises(InputError, match=f"data.field of a.png.*{words}"):
        drawn(label())
    assert drawn(None) == {}


def test_keys():
    with pytest.raises(ConfigError, match="data.fiftyone.dataset"):
        FiftyOneSource.complete(FiftyOneConfig())
    with pytest.raises(ConfigError, match="data.split"):
        FiftyOneSource.check_splits(FiftyOneConfig("x", tag=None))


@DATABASE
class TestFiftyOneSource(SourceContract):
    @pytest.fixture(scope="class")
    def dataset(self, tmp_path_factory):
        import fiftyone

        folder, dataset = tmp_path_factory.mktemp("fiftyone"), fiftyone.Dataset()
        for number, tag in enumerate(["train", "train", "validation", "test"]):
            pixels = np.random.default_rng(number).integers(0, 255, (*SHAPE, 3), np.uint8)
            pixels[5:25, 5:25] = 200
            Image.fromarray(pixels).save(folder / f"{number}.png")
            sample = fiftyone.Sample(filepath=str(folder / f"{number}.png"), tags=[tag])
            sample["ground_truth"] = fol.Detections(detections=[detection("cell", 5, 5, np.ones((20, 20), bool))])
            mask = np.zeros(SHAPE, np.uint8)
            mask[5:25, 5:25] = 3
            sample["classes"] = fol.Segmentation(mask=mask)
            dataset.add_sample(sample)
        dataset.mask_targets = {"classes": {3: "cell"}}
        yield dataset
        dataset.delete()

    @pytest.fixture(scope="class", params=["ground_truth", "classes"])
    def source(self, request, dataset):
        return FiftyOneSource("", "train", FiftyOneConfig(dataset.name, request.param))

    def test_its_images_are_found_without_labels(self, source, dataset):
        found = FiftyOneSource.images("", "train", FiftyOneConfig(dataset.name))
        assert found == [source.image_file(name) for name in source.names]

    def test_tags_are_splits(self, dataset):
        for split, names in (("train", ["0", "1"]), ("val", ["2"]), ("test", ["3"])):
            source = FiftyOneSource("", split, FiftyOneConfig(dataset.name))
            assert source.names == names and source.categories == {"cell": len(names)}
            assert source.label(names[0]).sum() == source.instances(names[0]).sum() == 400

    def test_a_segmentation_tells_no_objects_apart(self, dataset):
        source = FiftyOneSource("", "val", FiftyOneConfig(dataset.name, "classes"))
        assert source.instances("2") is None and source.label("2").sum() == 400

    def test_what_there_is_not(self, dataset):
        for settings, words in (
            (FiftyOneConfig("none"), "has no 'none'"),
            (FiftyOneConfig(dataset.name, "clases"), "did you mean 'classes'"),
            (FiftyOneConfig(dataset.name, tag="of {split}"), "tags: test, train, validation"),
        ):
            with pytest.raises(InputError, match=words):
                FiftyOneSource("", "train", settings)

    def test_it_trains(self, dataset, tiny_config, tmp_path, command):
        keys = [f"data.fiftyone.dataset={dataset.name}", "data.source=fiftyone", "data.ignore=[]", "train.epochs=1"]
        classes = "data.classes={background: null, cell: cell}"
        code, _, error = command("train", tiny_config, classes, *keys, f"run_dir={tmp_path / 'run'}")
        assert code == 0, error
        assert (tmp_path / "run" / "best.safetensors").is_file()
