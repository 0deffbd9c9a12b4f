"""The section `data` of a configuration, and the source that it names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samseg.common.errors import ConfigError, InputError, require
from samseg.data.preprocess import PERCENTILE, SQUASH, Preprocessing
from samseg.data.sources import SOURCES, Source, source_class
from samseg.data.sources.coco import CocoConfig
from samseg.data.sources.fiftyone import FiftyOneConfig
from samseg.data.sources.folders import FoldersConfig
from samseg.data.sources.label_studio import LabelStudioConfig
from samseg.data.sources.labelme import LabelmeConfig
from samseg.data.sources.maps_config import MapsConfig
from samseg.data.sources.places import SPLITS
from samseg.data.sources.yolo import YoloConfig
from samseg.data.splits import check_shares, draw_splits, share_of

LEAST_STD = 1e-4  # below a step of 16-bit images' values nothing is left to be told apart
IMAGE_SIZE = 1024  # px a side, for encoders that do not say theirs
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of R, G, B on 0..1, for the same


@dataclass
class DataConfig:
    # folders: images and masks, paired by name: root/SPLIT/images and masks, or as folders says below. coco:
    # root/SPLIT/images and annotations.json, see coco below. yolo: polygons in text files. label-studio: its own JSON.
    # labelme: root/SPLIT, with a JSON file beside each image, see labelme below. maps: georeferenced rasters with
    # polygons, lines, points or rasters as labels, see maps below. fiftyone: a dataset in FiftyOne's database.
    # null: what is recognised under root, which samseg check tells.
    source: str | None = None
    root: str = "data/sample"  # holds train/, val/, test/; relative to the current directory
    # Where there are no splits: shares of train, val and test, [0.7, 0.15, 0.15], or of train and val, [0.85, 0.15].
    # Each image is drawn by its name alone, and stays where it is when others are added. A train/ that is there is cut.
    split: list[float] | None = None
    split_seed: int = 0  # another draws other splits
    group: str | None = None  # "(patient\\d+)_.*": what the brackets capture of a name is drawn together
    fraction: float = 1.0  # of the training images is learnt from; smaller ones are parts of larger
    fraction_seed: int = 0  # another draws others of them
    # name: mask value, list of values, or for RGB masks a colour as [r, g, b] or "#rrggbb", or a list of colours. The
    # order gives the class index. Entries that are all lists of three numbers are colours. Where labels have names, as
    # with source: coco, yolo, label-studio, labelme and fiftyone: a name or a list of names, and null where there is no
    # object: {background: null, cell: cell}.
    classes: dict[str, Any] = field(default_factory=dict)
    ignore: list[Any] = field(default_factory=list)  # mask values (or colours) that count neither in loss nor metrics
    bands: list[int] | None = None  # the image's bands that are used, from 1; null: the first three, or one thrice
    # Values that become 0..1; beyond them they are clipped. null: 8-bit images, 0..255. [low, high]: of all bands;
    # [[low, high], ...]: of each. percentile: the 2nd and 98th of each band over the training images, measured once.
    scale: Any = None
    # The network's input, pixels a side; null: what the encoder was trained at, such as SAM's 1024. Encoders that are
    # made of patches want a multiple of 16 or 32.
    image_size: int | None = None
    # true: longest side to image_size, the rest padded; squash: both sides, whatever the image's shape, as SAM 2 and 3
    # were taught; false: random crops of image_size at native resolution. null: true, but with task: promptable squash
    # for those that were taught so.
    resize: bool | str | None = None
    views: int = 1  # 1, 2, 4 or 8 views of each training image, one drawn at random per step: as it is; and mirrored;
    # and both upside down (aerial images have no up); and all of these turned by a quarter. They come before augment.
    augment: list[Any] = field(default_factory=list)  # albumentations: HorizontalFlip, or {RandomScale: {p: 0.5}}
    mean: list[float] | None = (
        None  # of each band used, on 0..1; null: those that the encoder was trained with, repeated
    )
    std: list[float] | None = None
    folders: FoldersConfig = field(default_factory=FoldersConfig)
    coco: CocoConfig = field(default_factory=CocoConfig)
    yolo: YoloConfig = field(default_factory=YoloConfig)
    label_studio: LabelStudioConfig = field(default_factory=LabelStudioConfig)
    labelme: LabelmeConfig = field(default_factory=LabelmeConfig)
    maps: MapsConfig = field(default_factory=MapsConfig)
    fiftyone: FiftyOneConfig = field(default_factory=FiftyOneConfig)

    @property
    def channels(self) -> int:
        """Bands that the network is given."""
        return 3 if self.bands is None else len(self.bands)

    @property
    def preprocessing(self) -> Preprocessing:
        """The part of a complete configuration that says how images are shown to the network."""
        return Preprocessing(self.image_size, self.resize, self.bands, self.scale, self.mean, self.std)


def open_source(data: DataConfig, split: str) -> Source:
    """The images and labels of a split; InputError where they are not as the source needs them."""
    source = _whole_split(data, split)
    if split == "train" and data.fraction < 1:
        images = len(source.names)
        source.names = share_of(source.names, data.fraction, data.fraction_seed, data.group)
        source.notes.append(f"train: {len(source.names)} of {images} images, by data.fraction={data.fraction:g}")
    return source


def _whole_split(data: DataConfig, split: str) -> Source:
    cls, settings = source_class(data.source), source_settings(data)
    if data.split is None or split not in SPLITS[: len(data.split)]:  # of shares of train and val, test is not drawn
        if data.split is not None:
            cls.check_splits(settings)
        return cls(data.root, split, settings)
    source = cls(data.root, "train", settings)
    kinds = draw_splits([*source.names, *source.wrong], data.split, data.split_seed, data.group)
    source.split, names = split, source.names
    source.names = [name for name in names if kinds[name] == split]
    source.wrong = {name: error for name, error in source.wrong.items() if kinds[name] == split}
    if not source.names and not source.wrong:
        raise InputError(f"data.split={data.split} gives {split} none of the {len(kinds)} images in {data.root}")
    source.notes.append(f"{split}: {len(source.names)} of {len(names)} images, drawn by data.split={data.split}")
    return source


def split_images(data: DataConfig, split: str) -> list[Path]:
    """The image files of a split, labelled or not; InputError if there are none."""
    if data.split is not None:
        source = open_source(data, split)
        return [source.image_file(name) for name in source.names]
    return source_class(data.source).images(data.root, split, source_settings(data))


def source_settings(data: DataConfig) -> object | None:
    """The chosen source's own section of the configuration."""
    section = source_class(data.source).section
    return None if section is None else getattr(data, section)


def complete_data(
    data: DataConfig,
    image_size: int = IMAGE_SIZE,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    squash: bool = False,
) -> DataConfig:
    """Check the section and fill in, in place, what follows from other values; ConfigError for what cannot be.

    `image_size`, `mean`, `std` (R, G, B) and `squash` (whether images were squashed) are those that the encoder was
    trained with, for what is left out.
    """
    if data.image_size is None:
        data.image_size = image_size
    if data.resize is None:
        data.resize = SQUASH if squash else True
    require("data.resize", data.resize, f"true, false or {SQUASH}", (True, False, SQUASH).__contains__)
    data.root = str(Path(data.root).expanduser())
    data.source = data.source or "folders"
    source_class(data.source).complete(source_settings(data))
    check_shares(data.split, data.group)
    require("data.fraction", data.fraction, "above 0 and at most 1", lambda value: 0 < value <= 1)
    if data.split is None:
        source_class(data.source).check_splits(source_settings(data))
    elif data.source == "maps":
        raise ConfigError("data.split draws whole images; maps are cut into splits by data.maps.split=blocks")
    _check_other_sources(data)
    if data.source == "maps":
        entries = [entry if isinstance(entry, list) else [entry] for entry in [*data.classes.values(), data.ignore]]
        named = [name for entry in entries for name in entry if isinstance(name, str)]
        data.maps.order = list(dict.fromkeys([*(data.maps.order or []), *named]))
    require("data.views", data.views, "1, 2, 4 or 8 (flips, then quarter turns)", (1, 2, 4, 8).__contains__)
    if data.bands is not None and (not data.bands or min(data.bands) < 1):
        raise ConfigError(f"data.bands must be bands' numbers from 1, or null for the first three; got {data.bands}")
    _check_scale(data)
    for key, rgb in (("mean", mean), ("std", std)):
        if getattr(data, key) is None:
            setattr(data, key, [rgb[band % 3] for band in range(data.channels)])
        values = getattr(data, key)
        if len(values) != data.channels:
            names = "R, G, B" if data.bands is None else f"data.bands={data.bands}"
            raise ConfigError(f"data.{key} must hold {data.channels} numbers ({names}), got {values}")
        if not all(math.isfinite(value) and 0 <= value <= 1 for value in values) or (
            key == "std" and min(values) < LEAST_STD
        ):
            raise ConfigError(
                f"data.{key} is given on the scale 0..1 (std at least {LEAST_STD:g}), got {values}; divide by 255?"
            )
    return data


def _check_other_sources(data: DataConfig) -> None:
    """Keys of another source than the chosen would do nothing: an error, not a silence."""
    for name, other in SOURCES.items():
        if name == data.source or other.section is None:
            continue
        if getattr(data, other.section) != getattr(DataConfig(), other.section):
            raise ConfigError(f"data.{other.section} is for data.source={name}, but data.source is {data.source}")


def _check_scale(data: DataConfig) -> None:
    scale = data.scale
    if scale is None or scale == PERCENTILE:
        return
    if not isinstance(scale, list) or not scale:
        raise ConfigError(f"data.scale must be null, {PERCENTILE}, [low, high] or [[low, high], ...]; got {scale!r}")
    pairs = scale if isinstance(scale[0], list) else [scale]
    if isinstance(scale[0], list) and len(scale) != data.channels:
        raise ConfigError(f"data.scale must hold {data.channels} ranges, one for each band used, got {len(scale)}")
    for pair in pairs:
        numbers = isinstance(pair, list) and all(isinstance(n, (int, float)) and math.isfinite(n) for n in pair)
        if not numbers or len(pair) != 2 or not pair[0] < pair[1]:
            raise ConfigError(f"data.scale: a range is [low, high] with low below high, got {pair!r}")
