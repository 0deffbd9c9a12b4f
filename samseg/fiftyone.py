"""A trained run as one of FiftyOne's models: `dataset.apply_model(samseg.fiftyone.Model.from_run(RUN), "samseg")`."""

from pathlib import Path
from typing import Any

import numpy as np

from samseg.common.errors import InputError, first_line
from samseg.data.formats.images import SUFFIXES, read_image
from samseg.data.raster import Raster, as_raster
from samseg.inference.objects.files import ObjectFinder
from samseg.inference.predictor import Predictor
from samseg.predict.draw import background_of

try:
    import fiftyone.core.labels as fol
    import fiftyone.core.models as fom
except ImportError as error:
    needed = 'pip install "samseg-smp[fiftyone]"'
    raise InputError(f"samseg.fiftyone needs FiftyOne ({first_line(error)}): {needed}") from None

INTO = 1e-6  # pixels by which a corner is moved into its pixel: FiftyOne cuts off, and 15 / 22 * 22 is less than 15


class Model(fom.SamplesMixin, fom.Model):
    """Labels an image with a `Segmentation` of the run's classes, or `Detections` of its objects with their masks.

    Images are read from the samples' files as samseg reads them: all bits, all bands, upright. Those of other formats,
    and arrays (H, W, C), are taken as FiftyOne gives them.

    Args:
        predictor: of a run.
        objects: "components", "prompts", "amg" or "auto", as in samseg infer; None: classes.

    Attributes:
        mask_targets: what the values of a segmentation are called, for `dataset.mask_targets`; 0 is the background, as
            in FiftyOne.
    """

    media_type, ragged_batches, transforms, preprocess = "image", True, None, False

    def __init__(self, predictor: Predictor, objects: str | None = None):
        fom.SamplesMixin.__init__(self)
        self._predictor = predictor
        self._finder = None if objects is None else ObjectFinder(predictor, None if objects == "auto" else objects)
        background = background_of(predictor.classes)
        drawn = [index for index in range(len(predictor.classes)) if index != background]
        self._values = np.zeros(len(predictor.classes), np.uint8)
        self._values[drawn] = range(1, len(drawn) + 1)
        self.mask_targets = {int(self._values[index]): predictor.classes[index] for index in drawn}

    @classmethod
    def from_run(
        cls, run: str | Path, device: str | None = None, *, objects: str | None = None, **options: Any
    ) -> "Model":
        """The best model of a run; ``options`` as `Predictor.from_run` takes them. InputError if it is no run."""
        return cls(Predictor.from_run(run, device, **options), objects)

    def predict(self, arg: np.ndarray, sample: Any = None) -> fol.Label:
        """The labels of an image, of the ``sample``'s file or of an array."""
        image = as_raster(arg)
        if sample is not None and sample.filepath.lower().endswith(SUFFIXES):
            image = read_image(sample.filepath)
        return self._segmentation(image) if self._finder is None else self._detections(image)

    def _segmentation(self, image: Raster) -> fol.Segmentation:
        mask = self._values[self._predictor(image)]
        valid = self._predictor.preprocessing.valid_pixels(image)
        return fol.Segmentation(mask=mask if valid is None else np.where(valid, mask, 0).astype(np.uint8))

    def _detections(self, image: Raster) -> fol.Detections:
        objects, found = self._finder(image), []
        height, width = objects.map.shape
        for number, (label, score) in enumerate(zip(objects.classes, objects.scores, strict=True), start=1):
            mask = objects.map == number
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            (top, bottom), (left, right) = ((line[0], line[-1] + 1) for line in (rows, columns))
            corner = [(left + INTO) / width, (top + INTO) / height]
            found.append(
                fol.Detection(
                    label=self._finder.names[label],
                    bounding_box=[*corner, (right - left) / width, (bottom - top) / height],
                    mask=mask[top:bottom, left:right],
                    confidence=float(np.clip(score, 0, 1)),
                )
            )
        return fol.Detections(detections=found)
