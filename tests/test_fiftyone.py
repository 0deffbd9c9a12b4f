"""A run as one of FiftyOne's models: with FiftyOne's own labels, and with its database where one is named."""

import os

import numpy as np
import pytest
from PIL import Image

from samseg.inference.predictor import Predictor
from tests.random_run import write_run

fol = pytest.importorskip("fiftyone.core.labels", exc_type=ImportError)
fos = pytest.importorskip("fiftyone.core.sample", exc_type=ImportError)

from samseg.fiftyone import Model  # noqa: E402

DATABASE = pytest.mark.skipif(
    "FIFTYONE_DATABASE_URI" not in os.environ, reason="FIFTYONE_DATABASE_URI names no database"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("fiftyone") / "run")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)


def test_classes_with_the_background_at_zero(run, image):
    model, classes = Model.from_run(run, "cpu"), Predictor.from_run(run, "cpu")(image)
    found = model.predict(image)
    assert isinstance(found, fol.Segmentation) and np.array_equal(found.mask, classes)
    assert model.mask_targets == {1: "roof", 2: "tree"}


def test_objects_as_fiftyone_draws_them(run, image):
    model = Model.from_run(run, "cpu", objects="components")
    found, classes = model.predict(image), Predictor.from_run(run, "cpu")(image)
    assert isinstance(found, fol.Detections) and len(found.detections) > 2
    for label, value in (("roof", 1), ("tree", 2)):
        drawn = np.zeros((40, 56), np.uint8)
        for one in found.detections:
            if one.label == label:
                drawn = one.to_segmentation(mask=drawn).mask
        assert np.array_equal(drawn > 0, classes == value)
    assert all(0 < one.confidence <= 1 for one in found.detections)


def test_files_are_read_as_samseg_reads_them(run, image, tmp_path):
    """Upright: FiftyOne hands over what is stored."""
    stored = Image.fromarray(image)
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    sample = fos.Sample(filepath=str(tmp_path / "a.jpg"))
    found = Model.from_run(run, "cpu").predict(np.array(Image.open(tmp_path / "a.jpg")), sample=sample)
    assert found.mask.shape == (56, 40)


@DATABASE
def test_a_dataset_is_predicted(run, image, tmp_path):
    import fiftyone

    Image.fromarray(image).save(tmp_path / "a.png")
    dataset = fiftyone.Dataset()
    try:
        dataset.add_sample(fiftyone.Sample(filepath=str(tmp_path / "a.png")))
        for field, objects in (("classes", None), ("objects", "components")):
            dataset.apply_model(Model.from_run(run, "cpu", objects=objects), field)
        sample = dataset.first()
        assert np.array_equal(sample.classes.mask, Predictor.from_run(run, "cpu")(image))
        assert {one.label for one in sample.objects.detections} == {"roof", "tree"}
    finally:
        dataset.delete()
