"""The disk under a map: whether there is room, and errors of several libraries as one."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from samseg.common.errors import InputError, first_line
from samseg.common.files import written_whole
from samseg.common.machine import megabytes
from samseg.data.formats.georaster import gdal
from samseg.inference.each import output_folder
from samseg.maps.options import OVERLAY_PX
from samseg.maps.parts.plan import MapPlan

# Bytes a pixel of classes and of a layer of probabilities, compressed, when neighbours have little in common.
CLASS_BYTES, LAYER_BYTES = 0.3, 1.0
OVERVIEWS = 4 / 3  # of a raster and its overviews to the raster
ROOM = 2**20  # bytes: a disk with less is full, whatever GDAL has said of it


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """`written_whole` for GDAL and its like, whose errors on a full disk name something else, or are not raised."""
    with written_whole(path) as temporary:
        try:
            yield temporary
        except InputError:
            raise
        except Exception as error:
            _check_room(path, error)
            raise
        _check_room(path)


@contextmanager
def disk_errors_named(out: Path) -> Iterator[None]:
    """Make the folder ``out``; what the disk or GDAL cannot do in the block is an InputError."""
    output_folder(out)
    try:
        with gdal():
            yield
    except (OSError, RasterioError, CPLE_BaseError, DataSourceError, DataLayerError) as error:
        reason = first_line(error.__cause__ or error)
        raise InputError(f"{out} cannot be written: {reason}; the same command goes on where it stopped") from error


def bytes_wanted(
    plan: MapPlan, bands: int, classes: int, todo: int, filled: float, cog: bool, half: bool = False
) -> float:
    """About how much a map takes at most while ``todo`` of its parts are missing: they, the map made of all, and what
    neighbouring parts keep for each other; polygons are not in it.

    Args:
        bands: of a part.
        filled: the share of the raster that holds data.
        cog: the map is written twice.
        half: probabilities, and the parts, are stored in 16 bits.
    """
    height, width = plan.shape
    layers = CLASS_BYTES + LAYER_BYTES * (1 + half) * (bands - 1)
    pixels = height * width * filled
    rasters = pixels * layers * (todo / plan.parts + OVERVIEWS * (1 + cog))
    tile, step = plan.tiles.tile, plan.tiles.tile - plan.tiles.overlap
    edges = 4 * classes * width * tile * (tile / step) ** 2 if todo and plan.grid[0] > 1 else 0
    return rasters + edges + min(pixels, OVERLAY_PX**2) + ROOM  # a byte a pixel of the overlay


def check_space(out: Path, wanted: float, pixels: int) -> None:
    """InputError when the disk of ``out`` has less room than is ``wanted``, in bytes, for so many ``pixels``."""
    free = shutil.disk_usage(out).free
    if free < wanted:
        raise InputError(
            f"{out} has {megabytes(free)} free, and {pixels / 1e6:.3g} million pixels may take {megabytes(wanted)}; "
            "make room, name another --out, or limit it with --area or --bounds"
        )


def _check_room(path: Path, cause: Exception | None = None) -> None:
    if shutil.disk_usage(path.parent).free < ROOM:
        raise OSError(errno.ENOSPC, "no room") from cause
