"""Generated images of overlapping textured blobs and polygons with their instances, without end, to pretrain on."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from segment_anything.modeling.transformer import Attention

from samseg.data.dataset import SegmentationDataset
from samseg.data.raster import Raster, Window, crop
from samseg.data.sources import Source
from samseg.models.build import Built
from samseg.tasks.promptable.report import ObjectReport
from samseg.tasks.promptable.target import ObjectTarget
from samseg.tasks.promptable.task import PromptableTask

FIRST = {"train": 0, "val": 2**40, "test": 2**41}  # the number of a split's first image
MOST = 14  # objects drawn in an image; some are hidden by later ones
SEEN = 12  # pixels of an object that is left in the map


@lru_cache(maxsize=4)
def scene(number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image ``number`` (size, size, 3) uint8, and its objects (size, size) int32, 0 for none; the same each time."""
    rng = np.random.default_rng(number)
    image, objects = _texture(rng, size, _colour(rng)), np.zeros((size, size), np.int32)
    colours = [_colour(rng) for _ in range(rng.integers(1, 5))]
    typical, rim = np.exp(rng.uniform(np.log(0.09), np.log(0.28))) * size, rng.random() < 0.4
    for index in range(1, rng.integers(3, MOST + 1)):
        radius = typical * np.exp(rng.normal(0, 0.25))
        outline = _outline(rng, radius) + rng.uniform(0, size, 2)
        inside = cv2.fillPoly(np.zeros((size, size), np.uint8), [np.round(outline * 16).astype(np.int32)], 1, shift=4)
        colour = colours[rng.integers(len(colours))] + rng.normal(0, 10, 3)
        texture = _texture(rng, size, colour)
        if rim:
            border = inside - cv2.erode(inside, np.ones((3, 3), np.uint8))
            texture = np.where(border[..., None] > 0, texture * rng.uniform(0.5, 0.9), texture)
        image = np.where(inside[..., None] > 0, texture, image)
        objects[inside > 0] = index
    numbers, pixels = np.unique(objects, return_counts=True)
    objects[np.isin(objects, numbers[pixels < SEEN])] = 0
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    noisy = blurred + rng.normal(0, rng.uniform(0, 8), (size, size, 1))
    exposure = np.exp(rng.uniform(np.log(0.06), 0)) if rng.random() < 0.5 else 1
    return (exposure * noisy).clip(0, 255).astype(np.uint8), objects


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Grey, as microscopes see, or any colour: (3,)."""
    grey = np.full(3, rng.uniform(0, 255))
    return grey if rng.random() < 0.5 else rng.uniform(0, 255, 3)


def _texture(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    """Noise of one grain around a colour: (size, size, 3) float32."""
    cells = int(rng.integers(2, 24))
    grain = rng.normal(0, rng.uniform(0, 22), (cells, cells)).astype(np.float32)
    return cv2.resize(grain, (size, size), interpolation=cv2.INTER_LINEAR)[..., None] + colour.astype(np.float32)


def _outline(rng: np.random.Generator, radius: float) -> np.ndarray:
    """A star-shaped blob, round or lobed, or a polygon, around the origin: corners (N, 2) as (x, y)."""
    if rng.random() < 0.65:
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        lobes = np.arange(2, 6)[:, None]
        waves = rng.normal(0, 0.25, (4, 1)) / lobes * np.cos(lobes * angles + rng.uniform(0, 2 * np.pi, (4, 1)))
        distance = radius * (1 + waves.sum(0)).clip(0.3)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
        distance = radius * rng.uniform(0.6, 1.4, len(angles))
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.normal(0, 0.25))
    x, y = distance * np.cos(angles) * stretch, distance * np.sin(angles) / stretch
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)


class GeneratedSource(Source):
    """The first ``images`` of a split are its names, but any further number has an image, too."""

    def __init__(self, split: str, images: int, size: int):
        super().__init__("", split)
        self.size, self.names = size, [str(FIRST[split] + index) for index in range(images)]

    @classmethod
    def images(cls, root, split, settings=None) -> list[Path]:
        return []

    def shape(self, name: str) -> tuple[int, int]:
        return self.size, self.size

    def image(self, name: str, window: Window | None = None) -> Raster:
        return Raster(np.moveaxis(scene(int(name), self.size)[0], -1, 0)).crop(window)

    def may_lack_data(self, name: str) -> bool:
        return False

    def instances(self, name: str, window: Window | None = None) -> np.ndarray:
        return crop(scene(int(name), self.size)[1], window)

    def label(self, name: str, window: Window | None = None, colours: bool = False) -> np.ndarray:
        return (self.instances(name, window) > 0).astype(np.uint8)

    def digest(self, name: str) -> str:
        return f"{int(name):032x}"

    def image_file(self, name: str) -> Path:
        return Path(f"generated/{name}")

    def describe_label(self, name: str) -> str:
        return f"generated/{name}"


class EndlessDataset(SegmentationDataset):
    """Images that nobody has seen in each epoch."""

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        first = FIRST[self.source.split] + epoch * len(self)
        self._items = [str(first + index) for index in range(len(self))]


class FromNothing(PromptableTask):
    """`promptable` for weights that begin at random.

    Nothing is pretrained, so the prompt encoder learns, too. And a decoder that looks anywhere at first does not find
    out in thousands of steps that prompts have places. So its attention begins where a query meets a key like itself,
    and positions vary half as fast over the image, for objects are large in it.
    """

    def build_model(self, pretrained: bool = True) -> Built:
        built = super().build_model(pretrained)
        sam = built.model
        sam.prompt_encoder.requires_grad_(True)
        if self.model.weights is None:
            with torch.no_grad():
                sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(0.5)
                for attention in filter(lambda part: isinstance(part, Attention), sam.mask_decoder.modules()):
                    attention.k_proj.weight.mul_(2)
                    attention.q_proj.load_state_dict(attention.k_proj.state_dict())
        return built


class GeneratedTask(FromNothing):
    """`FromNothing` on generated objects."""

    images = {"train": 400, "val": 16}  # of an epoch

    def check(self, splits: Iterable[str]) -> ObjectReport:
        sources = {split: self._source(split) for split in splits}
        counts = {
            split: [len(np.unique(source.instances(name))) - 1 for name in source.names[:50]]
            for split, source in sources.items()
        }
        return ObjectReport(None, counts, {}, [])

    def dataset(self, split: str, *, train: bool, seed: int) -> SegmentationDataset:
        kind = EndlessDataset if train else SegmentationDataset
        return kind(self._source(split), ObjectTarget(None, []), self.preprocessing, train=train, seed=seed)

    def _source(self, split: str) -> GeneratedSource:
        return GeneratedSource(split, self.images[split], self.preprocessing.size)
