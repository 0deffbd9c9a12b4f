"""What a configuration says of the data, under the key `data`."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samseg.errors import ConfigError


@dataclass
class DataConfig:
    root: str = "data/sample"  # holds train/, val/, test/, each images/ and masks/; relative to the current directory
    # name: mask value, list of values, or for RGB masks a colour as [r, g, b] or "#rrggbb", or a list of colours. The
    # order gives the class index. Entries that are all lists of three numbers are colours.
    classes: dict[str, Any] = field(default_factory=dict)
    ignore: list[Any] = field(default_factory=list)  # mask values (or colours) that count neither in loss nor metrics
    image_size: int = 1024  # the network's input, pixels a side; for SAM's encoders a multiple of their patches' 16
    resize: bool = True  # longest side to image_size; false: random crops of image_size at native resolution
    views: int = 1  # 1, 2, 4 or 8 views of each training image, one drawn at random per step: as it is; and mirrored;
    # and both upside down (aerial images have no up); and all of these turned by a quarter. They come before augment.
    augment: list[Any] = field(default_factory=list)  # albumentations: HorizontalFlip, or {RandomScale: {p: 0.5}}
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])  # of R, G, B on 0..1; SAM's are ImageNet's
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])


def complete_data(data: DataConfig) -> None:
    """Check the section and fill in, in place, what follows from other values; ConfigError for what cannot be."""
    data.root = str(Path(data.root).expanduser())
    if data.views not in (1, 2, 4, 8):
        raise ConfigError(f"data.views must be 1, 2, 4 or 8 (flips, then quarter turns), got {data.views}")
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) != 3:
            raise ConfigError(f"data.{key} must hold three numbers (R, G, B), got {values}")
        if not all(math.isfinite(value) and 0 <= value <= 1 for value in values) or (key == "std" and 0 in values):
            raise ConfigError(f"data.{key} is given on the scale 0..1 (std above 0), got {values}; divide by 255?")
