"""TIFF files that PIL does not read: more than 8 bits, floating point, many bands; a window at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tifffile import COMPRESSION, TiffFile, TiffPage

from samseg.data.raster import Window, cut
from samseg.errors import InputError

WIDTH, HEIGHT, SAMPLES, NODATA = 256, 257, 277, 42113  # tags; the last is GDAL_NODATA, a number as text
COMPRESSIONS = ("raw", "packbits", "tiff_adobe_deflate", "tiff_deflate")  # PIL's names; others need imagecodecs
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF
EXTRA = 'pip install "samseg-smp[tiff]"'
LOSSY = (COMPRESSION.OJPEG, COMPRESSION.JPEG)


def is_tiff(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in MAGIC


def shape(path: str | Path) -> tuple[int, int]:
    """(H, W) of the first page, upright."""
    with _first_page(path) as page:
        size = page.imagelength, page.imagewidth
        return size[::-1] if _orientation(page) > 4 else size


def may_lack_data(path: str | Path) -> bool:
    """Whether the file names a nodata value or holds floating point, which has NaN."""
    with _first_page(path) as page:
        return NODATA in page.tags or page.dtype is None or page.dtype.kind == "f"


def orientation(path: str | Path) -> int:
    with _first_page(path) as page:
        return _orientation(page)


def pages(path: str | Path) -> int:
    """Pages that are pictures of their own: not overviews of another, and not what is transparent in it."""
    with _first_page(path) as page:
        return sum(not (one.is_reduced or one.is_mask) for one in page.parent.pages)


def is_lossy(path: str | Path) -> bool:
    with _first_page(path) as page:
        return page.compression in LOSSY


def read(path: str | Path, window: Window | None = None) -> tuple[np.ndarray, float | None]:
    """All bands (C, H, W) of the first page, or of a ``window``, and the nodata value."""
    with _first_page(path) as page:
        if page.dtype is None or page.dtype.kind not in "uif":
            raise InputError(f"{path} holds {page.dtype} values; integers and floating point are read")
        tag = page.tags.get(NODATA)
        empty = nodata(tag.value if tag else None)
        if window is None or _orientation(page) != 1:
            pixels = cut(_whole(page), window)
        else:
            pixels = _part(page, window, 0 if empty is None else empty)
        return pixels, empty


def nodata(text: str | None) -> float | None:
    """The value of a GDAL_NODATA tag; None where there is none."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, ...) as EXIF's ``orientation`` (1 to 8) says that it is to be seen."""
    if orientation > 4:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


@contextmanager
def _first_page(path: str | Path) -> Iterator[TiffPage]:
    try:
        with TiffFile(path) as file:
            if not file.pages:
                raise InputError(f"{path} is damaged: no picture is in it; replace the file")
            yield file.pages[0]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # as PIL's, tifffile's decoders raise anything on damaged files
        reason = str(error).split("\n")[0] or type(error).__name__
        way_out = EXTRA if "imagecodecs" in reason else "replace the file"
        raise InputError(f"{path} cannot be read: {reason}; {way_out}") from error


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get("Orientation")
    return int(tag.value) if tag else 1


def _whole(page: TiffPage) -> np.ndarray:
    pixels = page.asarray()
    if "S" not in page.axes:
        pixels = pixels[None]
    elif page.axes.endswith("S"):
        pixels = np.moveaxis(pixels, -1, 0)
    return np.moveaxis(upright(np.moveaxis(pixels, 0, -1), _orientation(page)), -1, 0)


def _part(page: TiffPage, window: Window, empty: float) -> np.ndarray:
    """The strips or tiles that a window touches, decoded one by one."""
    top, left, height, width = window
    pixels = np.full((page.samplesperpixel, height, width), empty, page.dtype)
    touched = []
    for index in range(len(page.dataoffsets)):
        _, (_, _, row, column, _), (_, high, wide, _) = page.decode(None, index)
        if row < top + height and row + high > top and column < left + width and column + wide > left:
            touched.append(index)
    file = page.parent.filehandle
    offsets, counts = ([values[i] for i in touched] for values in (page.dataoffsets, page.databytecounts))
    for data, number in file.read_segments(offsets, counts):
        index = touched[number]
        segment, (band, _, row, column, _), (_, high, wide, samples) = page.decode(data, index)
        if segment is None:  # a sparse file leaves out what is empty
            continue
        segment = np.moveaxis(segment[0, :high, :wide], -1, 0)  # (samples, high, wide)
        into = _overlap(row, high, top, height), _overlap(column, wide, left, width)
        (rows, from_rows), (columns, from_columns) = into
        pixels[band : band + samples, rows, columns] = segment[:, from_rows, from_columns]
    return pixels


def _overlap(start: int, length: int, begin: int, wanted: int) -> tuple[slice, slice]:
    """Where a segment's rows go in the window, and which of its rows these are."""
    first, last = max(start, begin), min(start + length, begin + wanted)
    return slice(first - begin, last - begin), slice(first - start, last - start)
