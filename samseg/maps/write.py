"""From parts to one GeoTIFF: tiled, compressed, with colours, class names and overviews."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from samseg.maps.parts.plan import BLOCK
from samseg.maps.parts.store import CERTAIN, DAMAGED, DIGEST, HALF, LAYOUT, NODATA, OUTPUTS, PartStore
from samseg.predict.draw import palette

SMALLEST_OVERVIEW = 512  # pixels on the longest side


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
