"""What is asked of a map, and the digest that tells one result from another."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samseg.errors import InputError


@dataclass(frozen=True)
class MapOptions:
    """How rasters are read and what is written.

    Attributes:
        bands: 1-based, in the network's order; None: the run's.
        resolution: metres a pixel that rasters are resampled to; None: their own.
        tta: average over the eight flips and turns of each tile.
        area: a file of polygons, ``bounds`` (left, bottom, right, top) in the raster's coordinates: pixels outside are
            nodata.
        skip_damaged: what cannot be read is nodata.
        probabilities: write them, too.
        polygons: the suffix of the vector file to write, or None; the fields after it say how.
        cog: write a cloud-optimised GeoTIFF.
        overwrite: replace an earlier result.
    """

    bands: tuple[int, ...] | None = None
    resolution: float | None = None
    tta: bool = False
    area: Path | None = None
    bounds: tuple[float, float, float, float] | None = None
    skip_damaged: bool = False
    probabilities: bool = False
    polygons: str | None = None
    cog: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.area is not None and self.bounds is not None:
            raise InputError("give an area or bounds, not both")
        if self.resolution is not None and not self.resolution > 0:
            raise InputError(f"--resolution is metres a pixel, above 0; got {self.resolution}")

    def pixels(self) -> dict[str, Any]:
        """The options that the pixels of the result depend on."""
        area = None
        if self.area is not None:
            try:
                area = hashlib.sha256(self.area.read_bytes()).hexdigest()[:16]
            except OSError as error:
                raise InputError(f"the area {self.area} cannot be read: {error.strerror}") from None
        return {
            "bands": self.bands and list(self.bands),
            "resolution": self.resolution,
            "tta": self.tta,
            "area": area,
            "bounds": self.bounds and list(self.bounds),
            "skip_damaged": self.skip_damaged,
        }


def digest(content: dict[str, Any]) -> str:
    """sha256 of a description."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
