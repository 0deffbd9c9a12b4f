"""What a configuration says of maps, under the key `data.maps`."""

from dataclasses import dataclass, field
from typing import Any


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
