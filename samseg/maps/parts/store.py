"""The parts of a map on disk: each a small GeoTIFF, written whole or not at all, that says what it is a part of."""

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window
from rasterio.windows import transform as window_transform
from torch import Tensor

from samseg.common.errors import InputError
from samseg.data.formats.georaster import RasterFile
from samseg.maps.disk import written
from samseg.maps.parts.plan import BLOCK, MapPlan
from samseg.predict.rows import likeliest
from samseg.predict.tiling import TilePlan

DIGEST = "SAMSEG_DIGEST"  # tags of the files
DAMAGED = "SAMSEG_DAMAGED_BLOCKS"
OUTPUTS = "SAMSEG_OUTPUTS"
NODATA = 255
CERTAIN = 254  # what a probability of 1 is stored as
FACTS = "parts.json"  # says of what the parts are, under these keys
KEYS = ("digest", "about", "classes", "tile", "overlap", "side", "confidence", "probabilities", "outputs")
GRID = "grid.tif"  # an empty raster of the whole: its size and place
ROWS = 256  # of a part that the best class is found of at a time: its index is 8 bytes a pixel
LAYOUT = dict(
    tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", interleave="band", sparse_ok=True,
    bigtiff="if_safer",
)  # fmt: skip
HALF = dict(dtype="float32", nbits=16, predictor=3)  # which GDAL stores as float16


@dataclass
class PartStore:
    """The parts of one raster in a folder.

    Their bands: the class; with ``confidence`` its probability; with ``probabilities`` one of each class. `NODATA` is
    what has none of them. All are uint8, the confidence as 0..254 and the probabilities, too; or with ``probabilities``
    "float16" all are float16, in which these are 0..1 and the others the same whole numbers.
    """

    folder: Path
    plan: MapPlan
    classes: list[str]
    digest: str  # names what the parts are made of
    about: dict[str, Any]  # the raster, the run and the options, for people
    place: dict[str, Any]  # the whole raster's, as `RasterFile.georeference`
    confidence: bool = False
    probabilities: str | None = None
    outputs: dict[str, Any] = field(default_factory=dict)  # what `samseg merge` makes of the parts, as in `MapOptions`

    @classmethod
    def opened(cls, folder: Path) -> "PartStore":
        """The store that `prepare` has made in a folder; InputError when there is none."""
        if not (folder / FACTS).is_file():
            raise InputError(f"{folder} holds no parts of a map; samseg infer --shard makes them")
        facts = _read_facts(folder)
        with RasterFile(folder / GRID) as grid:
            tiles, place = TilePlan(*grid.shape, facts.pop("tile"), facts.pop("overlap")), grid.georeference
        return cls(folder, MapPlan(tiles, facts.pop("side")), place=place, **facts)

    @property
    def bands(self) -> int:
        return 1 + self.confidence + (len(self.classes) if self.probabilities else 0)

    def prepare(self) -> None:
        """Make the folder; InputError, naming the difference, when it holds the parts of something else."""
        if (self.folder / FACTS).is_file():
            earlier = _read_facts(self.folder)
            if earlier["digest"] == self.digest:
                return
            before, now = earlier["about"], self.about
            changes = [
                f"{key} was {before.get(key)}, is {now.get(key)}"
                for key in before | now
                if before.get(key) != now.get(key)
            ]
            raise InputError(
                f"{self.folder} holds parts of another result ({'; '.join(changes) or 'the raster has changed'}): "
                "name another --out, or start anew with --overwrite"
            )
        if self.folder.is_dir() and any(not _of_preparing(name) for name in os.listdir(self.folder)):
            if (self.folder / FACTS).is_file():  # another shard has made it ready in the meantime
                return self.prepare()
            raise InputError(f"{self.folder} exists and holds no parts of a map; name another --out")
        height, width = self.plan.shape
        with written(self.folder / GRID) as temporary:
            profile = dict(driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=NODATA)
            with rasterio.open(temporary, "w", **LAYOUT, **profile, **self.place):
                pass
        facts = dict(
            digest=self.digest, about=self.about, classes=self.classes, tile=self.plan.tiles.tile,
            overlap=self.plan.tiles.overlap, side=self.plan.side, confidence=self.confidence,
            probabilities=self.probabilities, outputs=self.outputs,
        )  # fmt: skip
        with written(self.folder / FACTS) as temporary:  # last: it says that the folder is ours
            temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def remove(self) -> None:
        """Remove the folder, what says what it is last, so that a removal that is stopped can be gone on with."""
        for entry in self.folder.glob("*"):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name not in (FACTS, GRID):
                entry.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def clear(self) -> None:
        """Remove the parts of another result."""
        if (self.folder / FACTS).is_file() and _read_facts(self.folder)["digest"] != self.digest:
            self.remove()

    def file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.tif"

    def has(self, number: int) -> bool:
        """Whether a part is there, whole and of this result."""
        if not self.file(number).is_file():
            return False
        with suppress(RasterioError), rasterio.open(self.file(number)) as part:
            same = part.count == self.bands and (part.dtypes[0] == "uint8") == (self._kind["dtype"] == "uint8")
            return same and part.tags().get(DIGEST) == self.digest
        return False

    def missing(self, numbers: Sequence[int]) -> list[int]:
        return [number for number in numbers if not self.has(number)]

    def write(self, number: int, probabilities: Tensor | None, valid: np.ndarray | None, damaged: int = 0) -> None:
        """Write a part from its probabilities (C, h, w) and valid pixels (h, w) bool; None: nothing in it is valid."""
        box = self.plan.part(number)
        profile = dict(driver="GTiff", height=box.height, width=box.width, count=self.bands, nodata=NODATA)
        place = {}  # so that a part can be looked at, too
        if "transform" in self.place:
            at = Window(box.left, box.top, box.width, box.height)
            place = {"crs": self.place.get("crs"), "transform": window_transform(at, self.place["transform"])}
        with written(self.file(number)) as temporary:
            with rasterio.open(temporary, "w", **LAYOUT, **profile, **self._kind, **place) as part:
                if probabilities is not None:
                    for band, values in enumerate(self._layers(probabilities), start=1):
                        values[~valid] = NODATA
                        part.write(values, band)
                part.update_tags(**{DIGEST: self.digest, DAMAGED: damaged})

    def read(self, number: int, band: int = 1) -> np.ndarray:
        """A band (h, w) of a part: uint8, or float32 of a probability that is stored as float16."""
        with rasterio.open(self.file(number)) as part:
            values = part.read(band)
        return values.astype(np.uint8) if band <= 1 + self.confidence else values

    def damaged(self) -> int:
        """Blocks of the raster that could not be read, over all parts."""
        total = 0
        for number in range(self.plan.parts):
            with rasterio.open(self.file(number)) as part:
                total += int(part.tags()[DAMAGED])
        return total

    def holds_data(self) -> bool:
        """Whether any pixel of any part is more than nodata."""
        return any((self.read(number) != NODATA).any() for number in range(self.plan.parts))

    def _layers(self, probabilities: Tensor):
        yield np.concatenate([likeliest(rows) for rows in probabilities.split(ROWS, dim=1)])
        if self.confidence:
            yield _stored(probabilities.amax(dim=0))
        if self.probabilities == "float16":
            yield from probabilities.clamp(0, 1).half().float().numpy()  # as near as can be, whatever GDAL makes of it
        elif self.probabilities:
            yield from map(_stored, probabilities)

    @property
    def _kind(self) -> dict[str, Any]:
        """Of all bands of a part."""
        return HALF if self.probabilities == "float16" else dict(dtype="uint8")


def _read_facts(folder: Path) -> dict[str, Any]:
    """What `PartStore.prepare` wrote into a folder of a result, this or another; InputError where it is damaged."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return {key: facts[key] for key in KEYS} | {"about": dict(facts["about"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / FACTS} is damaged ({error}): delete {folder} to start anew") from None


def _stored(probabilities: Tensor) -> np.ndarray:
    return (probabilities.clamp(0, 1) * CERTAIN).round().byte().numpy()


def _of_preparing(name: str) -> bool:
    """Whether a file's name is one of those that `prepare` makes, finished or not: other shards may be at it, too."""
    return name in (GRID, FACTS) or name.startswith(tuple(f".{Path(file).stem}-" for file in (GRID, FACTS)))
