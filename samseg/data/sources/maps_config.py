"""What a configuration says of maps, under the key `data.maps`."""

from dataclasses import dataclass, field
from typing import Any

from samseg.common.errors import ConfigError, did_you_mean

KEYS = ("image", "labels", "area")
SPLITS = ("train", "val", "test")


@dataclass
class MapsConfig:
    """Rasters with their labels, by split; paths are relative to data.root."""

    # A list of {image: a.tif, labels: a.geojson, area: a.gpkg} for each split. An image is a raster, a VRT or a glob of
    # them, labels a vector file or a raster in any coordinate system; area, which may be left out, holds polygons
    # outside of which nothing counts.
    train: list[Any] = field(default_factory=list)
    val: list[Any] = field(default_factory=list)
    test: list[Any] = field(default_factory=list)
    split: str | None = (
        None  # blocks: the maps of train are cut into train, val and test (70, 15 and 15 % of the windows)
    )
    window: int = 1024  # pixels a side, at most, of the windows that maps are cut into; each is an image
    gap: int = 32  # with split: blocks, pixels that are left out between two windows
    layer: str | None = None  # of label files that hold several, such as a GeoPackage
    attribute: str | None = None  # of the labels, whose values data.classes names; null: all are the category "object"
    order: list[str] | None = None  # where categories overlap, from the lowest to the topmost; null: as in data.classes
    line_width: float | None = None  # metres, of lines
    point_radius: float | None = None  # metres, of points
    resolution: float | None = None  # metres a pixel that the maps are resampled to; null: their own


def complete_maps(maps: MapsConfig) -> None:
    """Check the section; ConfigError."""
    if maps.split not in (None, "blocks"):
        raise ConfigError(f"data.maps.split must be null or blocks, got {maps.split!r}")
    if maps.split == "blocks" and (maps.val or maps.test):
        raise ConfigError("data.maps.split=blocks cuts the maps of train; leave out data.maps.val and data.maps.test")
    for split in SPLITS:
        for number, entry in enumerate(getattr(maps, split), start=1):
            where = f"data.maps.{split}, entry {number}"
            if not isinstance(entry, dict) or "image" not in entry:
                raise ConfigError(f"{where} must be {{image: ..., labels: ..., area: ...}}, got {entry!r}")
            for key in entry:
                if key not in KEYS:
                    raise ConfigError(
                        f"{where}: unknown key {key!r}; there are {', '.join(KEYS)}{did_you_mean(key, KEYS)}"
                    )
    if maps.window < 1 or maps.gap < 0:
        raise ConfigError(f"data.maps.window must be above 0 and gap not below, got {maps.window} and {maps.gap}")
    for key in ("line_width", "point_radius", "resolution"):
        value = getattr(maps, key)
        if value is not None and not value > 0:
            raise ConfigError(f"data.maps.{key} is metres, above 0; got {value}")
