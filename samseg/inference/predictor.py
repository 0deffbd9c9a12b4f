"""A trained model and an image -> classes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from samseg.checkpoint import load_run
from samseg.config import DataConfig, RunConfig
from samseg.data.images import read_image
from samseg.errors import InputError
from samseg.inference.letterbox import network_view, normalised, own_size, padded
from samseg.inference.tiling import TilePlan, blended_rows

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
STRIPE_PX = 2**20  # pixels handed out at a time by `predict_rows` for a whole image


def predict_logits(
    model: nn.Module,
    image: np.ndarray,
    data_config: DataConfig,
    *,
    tile: bool | None = None,
    device: str | torch.device | None = None,
) -> Tensor:
    """Logits (C, H, W) float32 for an image (H, W, 3) uint8 at its own size, on ``device``. See `predict_rows`."""
    return torch.cat([logits for _, logits in predict_rows(model, image, data_config, tile=tile, device=device)], dim=1)


def predict_rows(
    model: nn.Module,
    image: np.ndarray,
    data_config: DataConfig,
    *,
    tile: bool | None = None,
    overlap: int | None = None,
    batch: int = 1,
    device: str | torch.device | None = None,
    autocast: torch.dtype | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, logits (C, len(rows), W) float32) from the image's top to its bottom, so that any size fits.

    With ``tile`` the image is seen at native resolution in tiles of ``data_config.image_size``, ``overlap`` px (None: a
    quarter of a tile) shared by neighbours, ``batch`` tiles at a time; without, as a whole at the network's size; None:
    as the model was trained. Softmax over the classes gives probabilities either way: the logits of a whole image are
    the model's own, resized; those of tiles are the logarithms of the blended probabilities.

    ``device``: where ``model`` is (None: asked of its parameters). The model is in evaluation mode meanwhile; after it
    each of its modules is in the mode it was in. InputError if the image is not (H, W, 3) uint8.
    """
    check_image(image)
    device = device or next((parameter.device for parameter in model.parameters()), "cpu")
    size, mean, std = data_config.image_size, data_config.mean, data_config.std
    height, width = image.shape[:2]

    def predict(pixels: Tensor) -> Tensor:
        kind = torch.device(device).type
        with torch.inference_mode(), torch.autocast(kind, dtype=autocast, enabled=autocast is not None):
            return model(pixels.to(device)).float()

    def read(top: int, left: int) -> Tensor:
        return padded(normalised(image[top : top + size, left : left + size], mean, std), size)

    with evaluating(model):
        if not data_config.resize if tile is None else tile:
            plan = TilePlan(height, width, size, size // 4 if overlap is None else overlap)
            for rows, probabilities in blended_rows(plan, read, predict, batch):
                yield rows, probabilities.clamp(min=torch.finfo(torch.float32).tiny).log_()
        else:
            yield from whole_rows(predict(network_view(image, size, mean, std)[None])[0], (height, width))


def whole_rows(logits: Tensor, shape: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows, logits (C, len(rows), W)) at the image's own ``shape`` (H, W) from the network's (C, size, size)."""
    height, width = shape
    step = max(1, STRIPE_PX // width)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        yield rows, own_size(logits, shape, rows)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for the block; then each module in its own mode again, be it eval."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def check_image(image: np.ndarray) -> None:
    """InputError unless the array is (H, W, 3) uint8 with at least one pixel."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(f"image must be an RGB array (H, W, 3) of uint8, got {image.shape} of {image.dtype}")


class Predictor:
    """A trained model, ready to classify images of any size: a path, a PIL image or an array (H, W, 3) uint8.

    ``tile``: overlapping tiles at native resolution (True), the whole image at the network's size (False), or as the
    model was trained (None, the default); ``overlap`` of tiles in px (None: a quarter of a tile).

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
    ) -> None:
        self.device = find_device(device)
        self.model = model.to(self.device)
        self.config = config
        self.tile = tile
        self.overlap = overlap

    @classmethod
    def from_run(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        *,
        tile: bool | None = None,
        overlap: int | None = None,
    ) -> "Predictor":
        """The best model of a run folder, on ``device`` (None: a GPU if there is one). InputError if it is no run."""
        model, config = load_run(path)
        return cls(model, config, device, tile=tile, overlap=overlap)

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their indices."""
        return list(self.config.data.classes)

    def __call__(self, image: np.ndarray | Image.Image | str | Path) -> np.ndarray:
        """Class indices (H, W) uint8 at the image's own size."""
        pixels = as_array(image)
        classes = np.empty(pixels.shape[:2], np.uint8)
        for rows, logits in self.rows(pixels):
            classes[rows] = likeliest(logits)
        return classes

    def probabilities(self, image: np.ndarray | Image.Image | str | Path) -> np.ndarray:
        """Class probabilities (C, H, W) float32 at the image's own size; over the classes they add up to 1."""
        pixels = as_array(image)
        probabilities = np.empty((len(self.classes), *pixels.shape[:2]), np.float32)
        for rows, logits in self.rows(pixels):
            probabilities[:, rows] = logits.softmax(dim=0).cpu().numpy()
        return probabilities

    def rows(self, image: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
        """(rows, logits (C, len(rows), W) float32) of an array, top to bottom: for large images."""
        on_gpu = self.device.type == "cuda"
        return predict_rows(
            self.model,
            image,
            self.config.data,
            tile=self.tile,
            overlap=self.overlap,
            batch=4 if on_gpu else 1,
            device=self.device,
            autocast=AUTOCAST[self.config.train.precision] if on_gpu else None,  # as trained; CPUs gain little from it
        )


def likeliest(logits: Tensor) -> np.ndarray:
    """Logits (C, H, W) -> class indices (H, W) uint8."""
    return logits.max(dim=0).indices.byte().cpu().numpy()  # on CPUs several times faster than argmax


def as_array(image: np.ndarray | Image.Image | str | Path) -> np.ndarray:
    """(H, W, 3) uint8 of an array (as it is), a PIL image or an image file."""
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, Image.Image):
        return read_image(image)
    if image.mode.startswith(("I", "F")):
        raise InputError(f"image has more than 8 bits a channel (mode {image.mode}); scale it to 8 bits")
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def find_device(device: str | torch.device | None) -> torch.device:
    """The device by that name, tried out; None: a GPU if there is one. InputError when it cannot be used."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device} cannot be used ({reason}); name another, such as cpu") from None
