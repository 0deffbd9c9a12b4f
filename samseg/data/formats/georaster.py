"""Rasters as GDAL reads them, a window at a time: pixels, which of them are valid, and where they lie."""

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from samseg.common.errors import InputError
from samseg.data.raster import Raster

try:
    import rasterio
    from rasterio.enums import ColorInterp, MaskFlags, Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.vrt import WarpedVRT
    from rasterio.windows import Window

    from samseg.data.formats.palettes import in_colours
except ImportError as error:
    raise InputError(f"maps need rasterio ({error}): pip install 'samseg-smp[maps]'") from None

CACHE_BYTES = 2**26  # of GDAL's blocks; its default, a twentieth of the machine's memory, grows with the machine
MOST_PIXELS = 2**28  # of an image that is read whole
MOST_SIDE = 2**31 - 1  # pixels, of what GDAL can count
PIECE = 128  # pixels a side of what is read at a time of a raster that is shrunk
ROWS = 256  # read at a time where only their validity is asked for
METRES_A_DEGREE = math.pi * 6371008.8 / 180


class RasterFile:
    """A raster opened for reading, by the process and the thread that opened it alone.

    Args:
        path: whatever GDAL reads.
        bands: 1-based indices of the bands to use, in the network's order; None: all but an alpha band.
        resolution: metres per pixel to resample to on the fly; None: the raster's own.
        skip_damaged: what cannot be read is nodata and counted by `damaged_in` rather than an error.

    Raises InputError when it cannot be opened or lacks a band.

    Attributes:
        shape: (H, W), resampled where asked for.
    """

    def __init__(
        self,
        path: str | Path,
        bands: Sequence[int] | None = None,
        resolution: float | None = None,
        skip_damaged: bool = False,
    ):
        self.path, self.skip_damaged = str(path), skip_damaged
        self._damaged: set[tuple[int, int]] = set()  # (top, left) of blocks
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._source = self._dataset = in_colours(rasterio.open(path))
        except RasterioError as error:
            raise InputError(f"{path} cannot be opened as a raster: {_reason(error)}") from None
        self.bands = list(bands) if bands else self.colour_bands
        missing = [band for band in self.bands if not 1 <= band <= self._source.count]
        if missing:
            raise InputError(
                f"{path} has {self._source.count} bands, and band {missing[0]} is asked for; name others with --bands"
            )
        if resolution is not None:
            self._dataset = self._resampled(resolution)
        self.shape: tuple[int, int] = (self._dataset.height, self._dataset.width)
        flags = self._dataset.mask_flag_enums
        self._all_valid = all(flags[band - 1] == [MaskFlags.all_valid] for band in self.bands)

    def __enter__(self) -> "RasterFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._dataset.close()
        self._source.close()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self._source.dtypes[self.bands[0] - 1])

    @property
    def georeference(self) -> dict[str, Any]:
        """What a raster of the same place is opened for writing with: crs, and transform, gcps or rpcs."""
        dataset = self._dataset
        place = {"crs": dataset.crs} if dataset.crs else {}
        gcps, gcps_crs = dataset.gcps
        if not dataset.transform.is_identity:
            place["transform"] = dataset.transform
        elif gcps:
            place |= {"gcps": gcps, "crs": gcps_crs}
        if dataset.rpcs and dataset is self._source:
            place["rpcs"] = dataset.rpcs
        return place

    @property
    def resolution(self) -> float | None:
        """Metres per pixel, about; None without a coordinate system."""
        across, down = pixel_metres(self._dataset)
        return math.sqrt(across * down) if across else None

    def read(self, top: int, left: int, height: int, width: int) -> Raster:
        """The bands (C, h, w) of a window within the raster, and its valid pixels (h, w) bool.

        A pixel is not valid where it is masked, transparent, nodata in all the bands that are used (in any, for
        floating point, whose nodata are values such as -9999 that no network should see), NaN or infinite. Raises
        InputError, naming the window, for what cannot be read.
        """
        try:
            return self._read(Window(left, top, width, height))
        except (RasterioError, OSError) as error:
            if not self.skip_damaged:
                raise InputError(
                    f"{self.path} cannot be read in rows {top} to {top + height} and columns {left} to {left + width}: "
                    f"{_reason(error)}; it is damaged: replace it (samseg infer --skip-damaged leaves such places out)"
                ) from None
        return self._read_blocks(top, left, height, width)

    def valid(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Which pixels of a window are valid (h, w) bool: `read`'s, without the pixels where that can be told."""
        if self._all_valid and not self.skip_damaged and not np.issubdtype(self.dtype, np.floating):
            return np.ones((height, width), bool)
        rows = [self.read(y, left, min(ROWS, top + height - y), width)[1] for y in range(top, top + height, ROWS)]
        return np.concatenate(rows)

    def damaged_in(self, top: int, left: int, height: int, width: int) -> int:
        """Blocks that begin in a window and could not be read, of those that have been tried."""
        return sum(top <= y < top + height and left <= x < left + width for y, x in self._damaged)

    def digest(self) -> str:
        """Names what is read: the files' names, sizes and times, and the raster's header.

        Rasters are too large to be read twice, so a file is the same if its size and its time are, as for make.
        """
        source = self._source
        files = sorted(Path(file) for file in source.files if not file.endswith((".aux.xml", ".ovr")))
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
        header = [source.shape, source.count, source.dtypes, source.nodatavals, source.crs, tuple(source.transform)]
        return hashlib.sha256(repr([stats, [str(value) for value in header]]).encode()).hexdigest()

    def small(self, longest: int) -> Raster:
        """The whole raster at each n-th pixel, ``longest`` pixels a side at most: bands (C, h, w), valid (h, w).

        It is read in pieces, so that a block is decoded once although the cache does not hold a row of them.
        """
        step = -(-max(self.shape) // longest)
        height, width = (-(-side // step) for side in self.shape)
        pixels, valid = np.zeros((len(self.bands), height, width), self.dtype), np.zeros((height, width), bool)
        across = width if self._dataset.block_shapes[0][1] >= self.shape[1] else PIECE  # blocks may be whole rows
        for top in range(0, height, PIECE):
            for left in range(0, width, across):
                rows, columns = slice(top, top + PIECE), slice(left, left + across)
                below, right = min((top + PIECE) * step, self.shape[0]), min((left + across) * step, self.shape[1])
                window = Window(left * step, top * step, right - left * step, below - top * step)
                with suppress(RasterioError, OSError):  # damaged there, as its reader has said
                    piece = self._read(window, valid[rows, columns].shape)
                    pixels[:, rows, columns], valid[rows, columns] = piece
        return Raster(pixels, valid)

    def _read(self, window: Window, shape: tuple[int, int] | None = None) -> Raster:
        shape = shape or (window.height, window.width)
        out = (len(self.bands), *shape)
        pixels = self._dataset.read(self.bands, window=window, out_shape=out)
        floating = np.issubdtype(pixels.dtype, np.floating)
        if self._all_valid:
            valid = np.ones(shape, bool)
        else:
            masks = self._dataset.read_masks(self.bands, window=window, out_shape=out) > 0
            valid = masks.all(axis=0) if floating else masks.any(axis=0)
        if floating:
            valid &= np.isfinite(pixels).all(axis=0)
        return Raster(pixels, valid)

    def _read_blocks(self, top: int, left: int, height: int, width: int) -> Raster:
        """As `read`, block by block; those that cannot be read are nodata."""
        pixels = np.zeros((len(self.bands), height, width), self.dtype)
        valid = np.zeros((height, width), bool)
        rows, columns = self._dataset.block_shapes[self.bands[0] - 1]
        for row in range(top // rows, -(-(top + height) // rows)):
            for column in range(left // columns, -(-(left + width) // columns)):
                y, x = max(top, row * rows), max(left, column * columns)
                below, right = min(top + height, (row + 1) * rows), min(left + width, (column + 1) * columns)
                place = slice(y - top, below - top), slice(x - left, right - left)
                try:
                    pixels[:, place[0], place[1]], valid[place] = self._read(Window(x, y, right - x, below - y))
                except (RasterioError, OSError):
                    self._damaged.add((row * rows, column * columns))
        return Raster(pixels, valid)

    @property
    def colour_bands(self) -> list[int]:
        """All bands but alpha, from 1."""
        interpretations = enumerate(self._source.colorinterp, start=1)
        return [band for band, meaning in interpretations if meaning != ColorInterp.alpha]

    def _resampled(self, resolution: float) -> WarpedVRT:
        """The raster at ``resolution`` metres a pixel in its own coordinate system, north up."""
        source = self._source
        across, down = pixel_metres(source)
        if across is None:
            raise InputError(
                f"{self.path} has no coordinate system, so its pixels have no size: leave out --resolution"
            )
        left, bottom, right, top = source.bounds
        x, y = source.transform.column_vectors[:2]
        size = (math.hypot(*x) * resolution / across, math.hypot(*y) * resolution / down)
        width, height = (max(1, round(abs(length) / step)) for length, step in zip((right - left, top - bottom), size))
        if max(width, height) > MOST_SIDE:
            raise InputError(
                f"{self.path} would have {width:.3g} x {height:.3g} pixels at {resolution} m a pixel, and has "
                f"{across:.3g} m itself: give --resolution a larger number"
            )
        place = rasterio.transform.from_origin(min(left, right), max(top, bottom), *size)
        masked = all(flags == [MaskFlags.all_valid] for flags in source.mask_flag_enums)
        return WarpedVRT(
            source,
            crs=source.crs,
            transform=place,
            width=width,
            height=height,
            resampling=Resampling.average if resolution > max(across, down) else Resampling.bilinear,
            add_alpha=masked,  # so that the corners of a rotated raster are told from its pixels
        )


def pixel_metres(dataset: Any) -> tuple[float, float] | tuple[None, None]:
    """(width, height) of the pixel in the middle in metres; degrees are measured at their latitude."""
    if not dataset.crs or dataset.transform.is_identity:
        return None, None
    transform = dataset.transform
    across, down = (transform.a, transform.d), (transform.b, transform.e)
    if dataset.crs.is_geographic:
        latitude = math.radians((transform @ (dataset.width / 2, dataset.height / 2))[1])
        scale = (METRES_A_DEGREE * math.cos(latitude), METRES_A_DEGREE)
    else:
        scale = (dataset.crs.linear_units_factor[1],) * 2
    return tuple(math.hypot(step[0] * scale[0], step[1] * scale[1]) for step in (across, down))


def is_map(path: Path) -> bool:
    """Whether GDAL reads it, and it has a place on Earth (transform, control points, RPCs) or more pixels than fit."""
    try:
        with RasterFile(path) as raster:
            return bool(raster.georeference) or math.prod(raster.shape) > MOST_PIXELS
    except InputError:
        return False


@contextmanager
def gdal() -> Iterator[None]:
    """GDAL as maps need it: a block cache of a fixed size, no listing of the folders of what is opened."""
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_DISABLE_READDIR_ON_OPEN="FALSE"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _reason(error: BaseException) -> str:
    """GDAL's own words, which rasterio keeps as the cause."""
    words = str(error.__cause__ or error).strip().split("\n")[0]
    return words.removeprefix("Read failed. See previous exception for details.") or type(error).__name__
