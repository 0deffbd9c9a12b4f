"""Image/mask pairs as training and evaluation take them."""

import random
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from samseg.data.classes import IGNORE_INDEX, parse_classes
from samseg.data.config import DataConfig
from samseg.data.images import image_area
from samseg.data.sources.folders import Pair, find_pairs, read_mask, read_pair
from samseg.data.views import drawn_view, seen
from samseg.errors import InputError

__all__ = ["IGNORE_INDEX", "SegmentationDataset"]


class Features(Protocol):
    """What an encoder gave for images, stored: see `samseg.features`."""

    def read(self, image: Path, view: int) -> list[torch.Tensor]: ...


class SegmentationDataset(Dataset):
    """The pairs of one split, ``root/split/images`` and ``root/split/masks`` by stem.

    Training items are ``{"image": (3, S, S) float32 normalised, "mask": (S, S) int64}``, S = ``image_size``, in one of
    the ``views`` and augmented: class indices, `IGNORE_INDEX` where ignored or padded. What is drawn for an item
    depends on (seed, epoch, index) alone, whichever process reads it. With ``resize: false`` an epoch takes as many
    random crops of an image as cover its area, so ``len`` counts crops. Evaluation items are whole and as they are on
    disk: ``{"image": (H, W, 3) uint8 array, "mask": (H, W) int64 tensor, "name": stem}``.

    Raises InputError for folders and pairs that are not as they must be; items raise it for files that cannot be read.

    Attributes:
        classes: class names in the order of their indices.
        pairs: the files, sorted by name.
    """

    def __init__(self, root: str | Path, split: str, data_config: DataConfig, train: bool, seed: int):
        self.pairs: list[Pair] = find_pairs(root, split)
        self._map = parse_classes(data_config.classes, data_config.ignore)
        self.classes = self._map.names
        self._seed = seed
        # In shared memory, so that processes that read images, also those kept from epoch to epoch, see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._items = list(range(len(self.pairs)))
        self._config = data_config
        self._features: Features | None = None
        self._transform = None
        if train:
            from samseg.data.augment import train_transform  # albumentations takes seconds to import

            self._transform = train_transform(data_config)
            if not data_config.resize:
                crop = data_config.image_size**2
                crops = [max(1, round(image_area(pair.image) / crop)) for pair in self.pairs]
                self._items = np.repeat(self._items, crops).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Draw anew from here on; to be called before the loader is iterated."""
        self._epoch.fill_(epoch)

    def use_features(self, features: Features) -> None:
        """From here on items hold, in place of ``"image"``, the ``"taps"`` that are stored for it: (h, w, C) each."""
        self._features = features
        if self._transform is not None:
            from samseg.data.augment import mask_transform

            self._transform = mask_transform(self._config)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict:
        pair = self.pairs[self._items[index]]
        training = self._transform is not None
        view = drawn_view(self._config.views if training else 1, self._seed, int(self._epoch), index % len(self))
        if self._features is not None:
            mask = read_mask(pair, self._map)
            given = {"taps": self._features.read(pair.image, view)}
        else:
            image, mask = read_pair(pair, self._map)
            given = {"image": image}
        if not training:
            return given | {"mask": torch.from_numpy(mask).long(), "name": pair.name}
        mask = seen(mask, view)
        if self._features is not None:
            return given | {"mask": torch.from_numpy(self._transform(image=mask)["image"]).long()}
        image = seen(image, view)
        # One generator for all transforms: set_random_seed would give each of them the same numbers, and a horizontal
        # flip would never come without the vertical one.
        generator = np.random.default_rng([self._seed, int(self._epoch), index % len(self)])
        self._transform.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        try:
            item = self._transform(image=image, mask=mask)
        except Exception as error:  # a crop larger than this image, or whatever else a transform cannot do with it
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise InputError(f"data.augment cannot be applied to {pair.image} ({size} pixels): {reason}") from error
        return {"image": item["image"], "mask": item["mask"].long()}
