"""A trained model and an image -> classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from samseg.common.errors import InputError
from samseg.data.formats.images import read_image
from samseg.data.raster import Raster, as_raster
from samseg.inference.precision import check_precision, fastest
from samseg.predict.rows import AUTOCAST, likeliest, predict_rows
from samseg.predict.tta import check_tta
from samseg.runs.config.schema import RunConfig
from samseg.runs.load import load_run

AnyImage = Raster | np.ndarray | Image.Image | str | Path


class Predictor:
    """A trained model, ready to classify images of any size: a path, a PIL image or an array.

    An array is (H, W, C) or (H, W), with all bands as they are stored; data.bands and data.scale of the run choose and
    scale them.

    ``tile``: overlapping tiles at native resolution (True), the whole image at the network's size (False), or as the
    model was trained (None, the default); ``overlap`` of tiles in px (None: a quarter of a tile). ``tta``: average over
    "flips" (four times the time) or these and quarter turns ("d4", eight times). ``precision``: on a CPU, see
    `samseg.inference.precision`; "auto" becomes what `decide` finds. A GPU computes as the model was trained.

    Examples:
        >>> predictor = Predictor.from_run("runs/buildings")
        >>> predictor.classes
        ['background', 'building']
        >>> predictor("field.jpg").shape
        (3000, 4000)
    """

    def __init__(
        self,
        model: nn.Module,
        config: RunConfig,
        device: str | torch.device | None = None,
        *,
        tile: bool | None = None,
        overlap: int | None = None,
        tta: str | None = None,
        precision: str | None = None,
    ) -> None:
        check_tta(tta)
        self.device = find_device(device)
        check_precision(precision, model, self.device)
        if precision == "bf16":
            model.encoder.round_trunk()
        self.model = model.to(self.device)
        self.precision = precision
        self.config, self.preprocessing = config, config.data.preprocessing
        self.tile, self.overlap, self.tta = tile, overlap, tta

    @classmethod
    def from_run(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        *,
        tile: bool | None = None,
        overlap: int | None = None,
        tta: str | None = None,
        precision: str | None = None,
    ) -> "Predictor":
        """The best model of a run folder, on ``device`` (None: a GPU if there is one). InputError if it is no run."""
        model, config = load_run(path)
        return cls(model, config, device, tile=tile, overlap=overlap, tta=tta, precision=precision)

    def decide(self, image: AnyImage) -> None:
        """With precision "auto", choose by this image and say why; the first that is classified is the one."""
        if self.precision == "auto":
            self.model, self.precision, why = fastest(self.model, self.preprocessing, _read(image))
            print(f"precision {self.precision}: {why}")

    @property
    def autocast(self) -> torch.dtype | None:
        """What the model computes in where autocast has it: on a GPU as it was trained, on a CPU by `precision`."""
        return AUTOCAST[self.config.train.precision if self.device.type == "cuda" else self.precision or "fp32"]

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their indices."""
        return list(self.config.data.classes)

    def __call__(self, image: AnyImage) -> np.ndarray:
        """Class indices (H, W) uint8 at the image's own size."""
        raster = _read(image)
        classes = np.empty(raster.pixels.shape[1:], np.uint8)
        for rows, logits in self.rows(raster):
            classes[rows] = likeliest(logits)
        return classes

    def probabilities(self, image: AnyImage) -> np.ndarray:
        """Class probabilities (C, H, W) float32 at the image's own size; over the classes they add up to 1."""
        raster = _read(image)
        probabilities = np.empty((len(self.classes), *raster.pixels.shape[1:]), np.float32)
        for rows, logits in self.rows(raster):
            probabilities[:, rows] = logits.softmax(dim=0).cpu().numpy()
        return probabilities

    def rows(self, image: AnyImage) -> Iterator[tuple[slice, Tensor]]:
        """(rows, logits (C, len(rows), W) float32), top to bottom: for large images."""
        on_gpu, image = self.device.type == "cuda", _read(image)
        self.decide(image)
        return predict_rows(
            self.model,
            image,
            self.preprocessing,
            tile=self.tile,
            overlap=self.overlap,
            batch=4 if on_gpu else 1,
            tta=self.tta,
            device=self.device,
            autocast=self.autocast,
        )


def _read(image: AnyImage) -> Raster:
    """All bands (C, H, W) of a raster (as it is), an array (H, W, C) or (H, W), a PIL image or an image file."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        deep = image.mode.startswith(("I", "F"))
        upright = ImageOps.exif_transpose(image)
        image = np.asarray(upright if deep else upright.convert("RGB"))
    return as_raster(image)


def find_device(device: str | torch.device | None) -> torch.device:
    """The device by that name, tried out; None: a GPU if there is one. InputError when it cannot be used."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device} cannot be used ({reason}); name another, such as cpu") from None
