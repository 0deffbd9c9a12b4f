"""Images and what is to be learnt of them, as training and evaluation take them."""

import random
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samseg.common.errors import InputError
from samseg.data.classes import IGNORE_INDEX
from samseg.data.config import DataConfig
from samseg.data.preprocess import fitted, fitted_label, network_input, padded_label, scaled, valid_pixels
from samseg.data.raster import Raster, Window
from samseg.data.sources import Source
from samseg.data.target import Target
from samseg.data.views import drawn_view, seen

__all__ = ["IGNORE_INDEX", "SegmentationDataset"]


class Features(Protocol):
    """What an encoder gave for images, stored: see `samseg.features`."""

    def read(self, source: Source, name: str, view: int) -> list[Tensor]: ...


class SegmentationDataset(Dataset):
    """The images of a source, each with its ``target``.

    Training items are ``{"image": (C, S, S) float32 normalised, "mask": (S, S)}``, S = ``image_size``, in one of the
    ``views`` and augmented. The mask is int64, or float32 for a target of floating point; it has the target's ``fill``
    where the image is padded or holds no data. What is drawn for an item depends on (seed, epoch, index) alone,
    whichever process reads it. With ``resize: false`` an epoch takes as many random crops of an image as cover its
    area, so ``len`` counts crops. Evaluation items are whole and as the source has them: ``{"image": Raster,
    "mask": (H, W) tensor, "name": name}``.

    Items raise InputError for files that cannot be read or do not fit each other or ``data``.

    Attributes:
        source: where they come from; `source.names` in their order.
    """

    def __init__(self, source: Source, target: Target, data: DataConfig, *, train: bool, seed: int):
        self.source, self.target, self.data = source, target, data
        self._train, self._seed = train, seed
        # In shared memory, so that processes that read images, also those kept from epoch to epoch, see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._items = list(source.names)
        self._features: Features | None = None
        self._augment = None
        if train:
            from samseg.data.augment import augmentation  # albumentations takes seconds to import

            self._augment = augmentation(data, target.fill)
            if not data.resize:
                crops = [max(1, round(np.prod(source.shape(name)) / data.image_size**2)) for name in source.names]
                self._items = np.repeat(self._items, crops).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Draw anew from here on; to be called before the loader is iterated."""
        self._epoch.fill_(epoch)

    def use_features(self, features: Features) -> None:
        """From here on items hold, in place of ``"image"``, the ``"taps"`` that are stored for it: (h, w, C) each."""
        self._features = features

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict:
        name = self._items[index]
        if not self._train:
            return self._evaluation_item(name)
        if self._features is None:
            return self.training_item(index)
        view = self._view(index)
        mask = fitted_label(seen(self._whole_target(name), view), self.data.image_size)
        return {"taps": self._features.read(self.source, name, view), "mask": self._padded(mask)}

    def training_item(self, index: int) -> dict:
        """The image of a training item with its mask, also where `use_features` has put taps in its place."""
        return self._training_item(self._items[index], self._view(index), index % len(self))

    def _view(self, index: int) -> int:
        return drawn_view(self.data.views, self._seed, int(self._epoch), index % len(self))

    def _evaluation_item(self, name: str) -> dict:
        if self._features is not None:
            given = {"taps": self._features.read(self.source, name, 0)}
            mask = self._whole_target(name)
        else:
            image, mask = read_pair(self.source, self.target, name)
            given = {"image": image}
            mask = without_data(mask, valid_pixels(image, self.data, self.source.image_file(name)), self.target.fill)
        return given | {"mask": _tensor(mask), "name": name}

    def _whole_target(self, name: str) -> np.ndarray:
        """The target, with `fill` where the image has no data; the image is read only if there may be such pixels."""
        if not self.source.may_lack_data(name):
            return self.target(self.source, name)
        image, mask = read_pair(self.source, self.target, name)
        return without_data(mask, valid_pixels(image, self.data, self.source.image_file(name)), self.target.fill)

    def _training_item(self, name: str, view: int, index: int) -> dict:
        # One generator for all that is drawn: seeds of their own would give each transform the same numbers, and a
        # horizontal flip would never come without the vertical one.
        generator = np.random.default_rng([self._seed, int(self._epoch), index])
        draw = random.Random(int(generator.integers(2**63)))
        image, mask = read_pair(self.source, self.target, name, self._window(name, draw))
        picture, valid = scaled(image, self.data, self.source.image_file(name))
        mask = without_data(mask, valid, self.target.fill)
        layers = {"image": picture, "mask": mask} | ({} if valid is None else {"valid": valid.view(np.uint8)})
        layers = {key: seen(layer, view) for key, layer in layers.items()}
        if self._augment is not None:
            self._augment.set_random_state(generator, draw)
            layers = self._augmented(layers, name)
        picture, mask, valid = layers["image"], layers["mask"], layers.get("valid")
        valid = None if valid is None else valid.astype(bool)
        if self.data.resize:
            picture, valid = fitted(picture, valid, self.data.image_size)
            mask = fitted_label(mask, self.data.image_size)
        return {"image": network_input(picture, valid, self.data), "mask": self._padded(mask)}

    def _window(self, name: str, draw: random.Random) -> Window | None:
        """What of an image is read: all, or a random crop. Twice the size leaves room to rotate and shrink."""
        if self.data.resize:
            return None
        size = self.data.image_size * (1 if self._augment is None else 2)
        sides = [(length, min(size, length)) for length in self.source.shape(name)]
        top, left = (draw.randint(0, length - window) for length, window in sides)
        return top, left, sides[0][1], sides[1][1]

    def _augmented(self, layers: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
        try:
            layers = self._augment(**layers)
        except Exception as error:  # a crop larger than this image, or whatever else a transform cannot do with it
            picture = layers["image"]
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            size = f"{picture.shape[1]} x {picture.shape[0]} pixels"
            if picture.dtype != np.uint8 or picture.shape[2] != 3:
                size += f", {picture.shape[2]} bands of {picture.dtype}"
            raise InputError(
                f"data.augment cannot be applied to {self.source.image_file(name)} ({size}): {reason}"
            ) from error
        bands = layers["image"].shape[2] if layers["image"].ndim == 3 else 1
        if bands != self.data.channels:
            raise InputError(f"data.augment makes {bands} channels of {self.data.channels}; leave out what does")
        return layers

    def _padded(self, mask: np.ndarray) -> Tensor:
        return _tensor(padded_label(mask, self.data.image_size, self.target.fill))


def read_pair(source: Source, target: Target, name: str, window: Window | None = None) -> tuple[Raster, np.ndarray]:
    """An image and its target (H, W), or a window of both; InputError when their sizes differ."""
    image, mask = source.image(name, window), target(source, name, window)
    if image.pixels.shape[1:] != mask.shape:
        height, width = image.pixels.shape[1:]
        raise InputError(
            f"{source.describe_label(name)} is {mask.shape[1]} x {mask.shape[0]} pixels, but "
            f"{source.image_file(name)} is {width} x {height}; they must be of one size"
        )
    return image, mask


def without_data(mask: np.ndarray, valid: np.ndarray | None, fill: float) -> np.ndarray:
    """A target (H, W) with ``fill`` where the image has no data."""
    return mask if valid is None else np.where(valid, mask, mask.dtype.type(fill))


def _tensor(mask: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(mask)
    return tensor.float() if tensor.is_floating_point() else tensor.long()
