"""Images with the maps to be learnt, as training and evaluation take them."""

import random
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samseg.common.errors import InputError, first_line
from samseg.data.classes import IGNORE_INDEX
from samseg.data.preprocess import Preprocessing
from samseg.data.raster import Raster, Window
from samseg.data.sources import Source
from samseg.data.target import Maps, Target
from samseg.data.views import apply_view, drawn_view

__all__ = ["IGNORE_INDEX", "SegmentationDataset"]


class Features(Protocol):
    """Stored features of images: see `samseg.features`."""

    def read(self, source: Source, name: str, view: int) -> list[Tensor]: ...


class SegmentationDataset(Dataset):
    """The images of a source, each with the maps of its ``target``.

    Training items are ``{"image": (C, S, S) float32 normalised, "classes": (S, S), ...}``, in one of the first
    ``views`` views and augmented by ``augment``; the target names the maps. They are int64, or float32 where the target
    has floating point, with the target's ``fill`` where the image is padded or holds no data. What is drawn for an item
    depends on (seed, epoch, index) alone, whichever process reads it. With ``resize: false`` an epoch takes as many
    random crops of an image as cover its area, so ``len`` counts crops. Evaluation items are whole and as the source
    has them: ``{"image": Raster, "classes": (H, W) tensor, ..., "name": name}``.

    Items raise InputError for files that cannot be read or do not fit each other or the preprocessing.

    Attributes:
        source: where they come from; `source.names` in their order.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        preprocessing: Preprocessing,
        *,
        train: bool,
        seed: int,
        views: int = 1,
        augment: Sequence[Any] = (),
    ):
        self.source, self.target, self.preprocessing, self.views = source, target, preprocessing, views
        self._train, self._seed = train, seed
        # In shared memory, so that processes that read images, also those kept from epoch to epoch, see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._items = list(source.names)
        self._features: Features | None = None
        self._augment = None
        if train:
            from samseg.data.augment import augmentation  # albumentations takes seconds to import

            self._augment = augmentation(augment, preprocessing, target.fill, target.maps[1:])
            if not preprocessing.resize:
                crops = [max(1, round(np.prod(source.shape(name)) / preprocessing.size**2)) for name in source.names]
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
        maps = {key: apply_view(values, view) for key, values in self._whole_target(name).items()}
        return {"taps": self._features.read(self.source, name, view), **self._sized(maps)}

    def training_item(self, index: int) -> dict:
        """The image of a training item with its maps, also where `use_features` has put taps in its place."""
        # One generator for all that is drawn: seeds of their own would give each transform the same numbers, and a
        # horizontal flip would never come without the vertical one.
        generator = np.random.default_rng([self._seed, int(self._epoch), index % len(self)])
        draw = random.Random(int(generator.integers(2**63)))
        name, view = self._items[index], self._view(index)
        image, maps = read_pair(self.source, self.target, name, self._window(name, draw))
        picture, valid = self.preprocessing.scaled(image, self.source.image_file(name))
        layers = {"image": picture, **without_data(maps, valid, self.target.fill)}
        layers |= {} if valid is None else {"valid": valid.view(np.uint8)}
        layers = {key: apply_view(layer, view) for key, layer in layers.items()}
        if self._augment is not None:
            self._augment.set_random_state(generator, draw)
            layers = self._augmented(layers, name)
        picture, valid = layers.pop("image"), layers.pop("valid", None)
        valid = None if valid is None else valid.astype(bool)
        pixels = self.preprocessing.network_input(picture, valid, fit=self.preprocessing.resize)
        return {"image": pixels, **self._sized(layers)}

    def _view(self, index: int) -> int:
        return drawn_view(self.views, self._seed, int(self._epoch), index % len(self))

    def _evaluation_item(self, name: str) -> dict:
        if self._features is not None:
            given, maps = {"taps": self._features.read(self.source, name, 0)}, self._whole_target(name)
        else:
            image, maps = self._read_whole(name)
            given = {"image": image}
        return given | {key: _tensor(values) for key, values in maps.items()} | {"name": name}

    def _whole_target(self, name: str) -> Maps:
        """The maps, with `fill` where the image has no data; the image is read only if there may be such pixels."""
        return self._read_whole(name)[1] if self.source.may_lack_data(name) else self.target(self.source, name)

    def _read_whole(self, name: str) -> tuple[Raster, Maps]:
        image, maps = read_pair(self.source, self.target, name)
        valid = self.preprocessing.valid_pixels(image, self.source.image_file(name))
        return image, without_data(maps, valid, self.target.fill)

    def _window(self, name: str, draw: random.Random) -> Window | None:
        """The window to read: all of the image, or a random crop. Twice the size leaves room to rotate and shrink."""
        if self.preprocessing.resize:
            return None
        size = self.preprocessing.size * (1 if self._augment is None else 2)
        sides = [(length, min(size, length)) for length in self.source.shape(name)]
        top, left = (draw.randint(0, length - window) for length, window in sides)
        return top, left, sides[0][1], sides[1][1]

    def _augmented(self, layers: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
        first = self.target.maps[0]
        layers["mask"] = layers.pop(first)
        try:
            layers = self._augment(**layers)
        except Exception as error:  # a crop larger than this image, or whatever else a transform cannot do with it
            picture = layers["image"]
            reason = first_line(error)
            size = f"{picture.shape[1]} x {picture.shape[0]} pixels"
            if picture.dtype != np.uint8 or picture.shape[2] != 3:
                size += f", {picture.shape[2]} bands of {picture.dtype}"
            raise InputError(
                f"data.augment cannot be applied to {self.source.image_file(name)} ({size}): {reason}"
            ) from error
        bands = layers["image"].shape[2] if layers["image"].ndim == 3 else 1
        if bands != self.preprocessing.channels:
            raise InputError(
                f"data.augment makes {bands} channels of {self.preprocessing.channels}; leave out what does"
            )
        layers[first] = layers.pop("mask")
        return layers

    def _sized(self, maps: Maps) -> dict[str, Tensor]:
        """The maps (S, S), as the network's input lies."""
        lay, fit = self.preprocessing.map_input, self.preprocessing.resize
        return {key: _tensor(lay(values, self.target.fill, fit)) for key, values in maps.items()}


def read_pair(source: Source, target: Target, name: str, window: Window | None = None) -> tuple[Raster, Maps]:
    """An image and its maps, or a window of them; InputError when their sizes differ."""
    image, maps = source.image(name, window), target(source, name, window)
    height, width = image.pixels.shape[1:]
    for values in maps.values():
        if values.shape != (height, width):
            raise InputError(
                f"{source.describe_label(name)} is {values.shape[1]} x {values.shape[0]} pixels, but "
                f"{source.image_file(name)} is {width} x {height}; they must be of one size"
            )
    return image, maps


def without_data(maps: Maps, valid: np.ndarray | None, fill: float) -> Maps:
    """The maps with ``fill`` where the image is not ``valid`` (H, W); None: it is everywhere."""
    if valid is None:
        return maps
    return {key: np.where(valid, values, values.dtype.type(fill)) for key, values in maps.items()}


def _tensor(values: np.ndarray) -> Tensor:
    tensor = torch.from_numpy(values)
    return tensor.float() if tensor.is_floating_point() else tensor.long()
