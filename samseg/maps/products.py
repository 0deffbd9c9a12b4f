"""The outputs made of a raster's parts: the map, probabilities, polygons, an overlay to look at."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from samseg.common.errors import InputError
from samseg.common.files import sweep
from samseg.data.formats.georaster import RasterFile, gdal
from samseg.data.raster import Raster, as_picture
from samseg.maps.disk import disk_errors_named, written
from samseg.maps.options import OVERLAY_PX, MapOptions
from samseg.maps.parts.plan import BLOCK
from samseg.maps.parts.store import CERTAIN, DAMAGED, DIGEST, HALF, LAYOUT, NODATA, OUTPUTS, PartStore
from samseg.maps.polygons.areas import areas
from samseg.maps.polygons.files import Place, write_polygons
from samseg.predict.draw import background_of, legend, overlay, palette, save_picture
from samseg.runs.lock import locked

SMALLEST_OVERVIEW = 512  # pixels on the longest side


@dataclass
class Products:
    """The outputs of one raster in the folder ``out``."""

    store: PartStore
    out: Path
    options: MapOptions

    @property
    def classes(self) -> Path:
        return self._file(".tif")

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes from making them: two would delete each other's files. Shards may be computed."""
        return locked(self.out / f".{self.store.folder.stem}.lock", self.classes, "--out")

    def finished(self) -> bool:
        """Whether all outputs are there; InputError when they are another's, or were made with less."""
        if not self.classes.exists():
            return False
        digest, outputs = made_of(self.classes)
        if digest != self.store.digest:
            raise InputError(
                f"{self.classes} exists and was made of another raster, run or options; name another --out, or replace "
                "it with --overwrite"
            )
        asked = self.options.outputs()
        lacking = [file for key, file in self._files().items() if not file.exists() or asked[key] != outputs.get(key)]
        if lacking and not self.store.folder.is_dir():
            raise InputError(
                f"{self.classes} is finished, without {lacking[0].name} as it is asked for; --overwrite makes both"
            )
        return not lacking

    def write(self) -> None:
        """Write all outputs, the map last: where it is, the others are. They are locked meanwhile."""
        missing = self.store.missing(range(self.store.plan.parts))
        if missing:
            raise InputError(
                f"{self.store.folder} lacks {len(missing)} of {self.store.plan.parts} parts, such as "
                f"{self.store.file(missing[0]).name}: run the shards that were not finished"
            )
        for file in (self.classes, self._overlaid, *self._files().values()):
            sweep(file)
        with gdal():
            if self.options.probabilities:
                with written(self._file("_probabilities.tif")) as temporary:
                    write_probabilities(self.store, temporary, self.options.cog)
            with written(self.classes) as temporary:
                write_classes(self.store, temporary, self.options.cog)
                if self.options.polygons is not None:
                    self._polygons()
                self._overlay(temporary)
        self._tell()

    def _tell(self) -> None:
        damaged, empty = self.store.damaged(), not self.store.holds_data()
        if damaged:
            print(f"{damaged} blocks of {self.store.about['raster']} could not be read and are nodata")
        if empty:
            print(f"{self.classes} is done, and nothing but nodata")
        else:
            print(f"{self.classes} is done; open {self._overlaid} (legend.png says which colour is what)")

    def _polygons(self) -> None:
        place = Place(self.store.place, self.store.about["raster"])
        found = areas(self.store, background_of(self.store.classes))
        file = self._file(f".{self.options.polygons.suffix}")
        count = write_polygons(file, found, self.store.classes, place, self.options.polygons)
        print(f"{count} polygons in {file}")

    @property
    def _overlaid(self) -> Path:
        return self._file("_overlay.jpg")

    def _overlay(self, classes: Path) -> None:
        try:
            with RasterFile(self.store.about["raster"], self.options.bands, self.options.resolution) as raster:
                pixels, valid = raster.small(OVERLAY_PX)
        except InputError:
            return  # parts that were computed elsewhere, of a raster that is not here
        with RasterFile(classes) as raster:
            found = raster.small(OVERLAY_PX)[0][0]
        picture = as_picture(Raster(pixels, valid))
        picture[~valid] = 255
        save_picture(self._overlaid, overlay(picture, found, background_of(self.store.classes)))
        save_picture(self.out / "legend.png", legend(self.store.classes))

    def _files(self) -> dict[str, Path]:
        """What is asked for beside the map, by the name of its option."""
        files = {"probabilities": self._file("_probabilities.tif")} if self.options.probabilities else {}
        polygons = self.options.polygons
        return files | ({"polygons": self._file(f".{polygons.suffix}")} if polygons else {})

    def _file(self, ending: str) -> Path:
        return self.out / (self.store.folder.stem + ending)


def merge(folder: Path, cog: bool = False, overwrite: bool = False) -> None:
    """Make what the shards in ``folder`` (STEM.parts) were asked for, beside it, and remove the parts.

    InputError for a folder that holds no parts or not all of them, and for a map of another result that is there.
    """
    store = PartStore.opened(folder)
    products = Products(store, folder.parent, MapOptions.from_outputs(store.outputs, cog=cog, overwrite=overwrite))
    with products.lock(), disk_errors_named(folder.parent):
        if overwrite or not products.finished():
            products.write()
        store.remove()


def write_classes(store: PartStore, path: Path, cog: bool = False) -> None:
    """Write the class map of all parts: class indices, `NODATA` outside, overviews by mode.

    Its metadata name the classes (``CLASS_0`` ...), the digest of what it was made of and what else was made of it.
    """
    tags = {f"CLASS_{index}": name for index, name in enumerate(store.classes)}
    colours = {index: (*colour, 255) for index, colour in enumerate(palette(len(store.classes)))} | {
        NODATA: (0, 0, 0, 0)
    }
    with _one_raster(store, path, [1], Resampling.mode, cog) as raster:
        raster.write_colormap(1, colours)
        raster.colorinterp = [ColorInterp.palette]
        raster.set_band_description(1, "class")
        raster.update_tags(**tags, **{DAMAGED: store.damaged()})


def write_probabilities(store: PartStore, path: Path, cog: bool = False) -> None:
    """Write one band a class: float16 with NaN outside, or uint8, 0..254 for 0..1 (the bands' scale says so), with
    `NODATA` outside."""
    bands = range(store.bands - len(store.classes) + 1, store.bands + 1)
    half = store.probabilities == "float16"
    kind = HALF | dict(nodata=math.nan) if half else dict(predictor=2)
    with _one_raster(store, path, bands, Resampling.average, cog, **kind) as raster:
        if not half:
            raster.scales = [1 / CERTAIN] * len(store.classes)
        for band, name in enumerate(store.classes, start=1):
            raster.set_band_description(band, name)


def made_of(path: Path) -> tuple[str | None, dict[str, Any]]:
    """The digest of what a finished output was made of, and what else was made of it; None, {}: another's file."""
    try:
        with rasterio.open(path) as raster:
            tags = raster.tags()
    except RasterioError:
        tags = {}
    return tags.get(DIGEST), json.loads(tags.get(OUTPUTS, "{}"))


@contextmanager
def _one_raster(
    store: PartStore, path: Path, bands: Sequence[int], overviews: Resampling, cog: bool, **kind
) -> Iterator[rasterio.io.DatasetWriter]:
    """The raster of the parts' ``bands``, open for its metadata; at the end it gets its pixels and overviews."""
    height, width = store.plan.shape
    profile = LAYOUT | store.place | dict(height=height, width=width, count=len(bands))
    profile |= dict(driver="GTiff", dtype="uint8", nodata=NODATA) | kind
    made = store.folder / path.name if cog else path  # GDAL makes a cloud-optimised one of a whole one
    with rasterio.open(made, "w", **profile) as raster:
        raster.update_tags(**{DIGEST: store.digest, OUTPUTS: json.dumps(store.outputs)})
        yield raster  # metadata first: they stand at the head of the file
        for number in range(store.plan.parts):
            box = store.plan.part(number)
            window = Window(box.left, box.top, box.width, box.height)
            for index, band in enumerate(bands, start=1):
                values = store.read(number, band)
                if (there := values != NODATA).any():
                    raster.write(np.where(there, values, profile["nodata"]).astype(values.dtype), index, window=window)
    if cog:
        layout = dict(compress="deflate", blocksize=BLOCK, bigtiff="if_safer", sparse_ok=True)
        rasterio.shutil.copy(made, path, driver="COG", overview_resampling=overviews.name, **layout)
        made.unlink()
        return
    with (
        rasterio.Env(COMPRESS_OVERVIEW="DEFLATE", SPARSE_OK_OVERVIEW="YES", GDAL_TIFF_OVR_BLOCKSIZE=BLOCK),
        rasterio.open(made, "r+") as raster,
    ):
        halvings = math.ceil(math.log2(max(height, width) / SMALLEST_OVERVIEW))
        if halvings > 0:
            raster.build_overviews([2**number for number in range(1, halvings + 1)], overviews)
