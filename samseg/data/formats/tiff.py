"""TIFF files that PIL does not read, a window at a time: deep ones, many bands, bands that are pages, masks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TiffFile, TiffPage

from samseg.common.errors import InputError, first_line
from samseg.data.raster import Raster, Window, crop, pixels_with_data

WIDTH, HEIGHT, SAMPLES, NODATA = 256, 257, 277, 42113  # tags; the last is GDAL_NODATA, a number as text
ORIENTATION, PLACES = 274, (33922, 34264)  # tags; the latter GeoTIFF's tie points and transform
PHOTOMETRY = 262  # a tag, 0: 0 is white
COMPRESSIONS = ("raw", "packbits", "tiff_adobe_deflate", "tiff_deflate")  # PIL's names; others need imagecodecs
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # TIFF and BigTIFF
EXTRA = 'pip install "samseg-smp[tiff]"'
AXES = {"Z": "slices", "T": "times", "C": "channels"}  # in tifffile's letters
LOSSY = (COMPRESSION.OJPEG, COMPRESSION.JPEG)


def shape(path: str | Path) -> tuple[int, int]:
    """(H, W) of the image, upright."""
    with _opened(path) as (page, *_):
        size = page.imagelength, page.imagewidth
        return size[::-1] if _orientation(page) > 4 else size


def may_lack_data(path: str | Path) -> bool:
    """Whether the file names a nodata value, has an alpha channel or a mask, or holds floating point, which has NaN."""
    with _opened(path) as (page, *_):
        floating = page.dtype is None or page.dtype.kind == "f"
        return NODATA in page.tags or floating or _alpha(page) is not None or _mask(page) is not None


def orientation(path: str | Path) -> int:
    with _opened(path) as (page, *_):
        return _orientation(page)


def pages(path: str | Path) -> int:
    """Pages that are pictures of their own: not overviews of another, and not what is transparent in it."""
    with _opened(path, alone=True) as (page,):
        return _pictures(page)


def has_bands_in_pages(path: str | Path) -> bool:
    with _opened(path) as bands:
        return len(bands) > 1


def read_image(path: str | Path, window: Window | None = None) -> Raster:
    """All bands (C, H, W), or a ``window`` of them; not valid is what is nodata, transparent or masked."""
    with _opened(path) as bands:
        page = bands[0]
        empty, alpha, mask = _nodata(page), _alpha(page), _mask(page)
        pixels = np.concatenate([_stored(one, window, empty, path) for one in bands])
        visible = pixels[alpha] > 0 if alpha is not None else None
        if mask is not None:
            unmasked = crop(_whole(mask)[0], window) > 0
            visible = unmasked if visible is None else visible & unmasked
        valid = pixels_with_data(pixels, empty, visible)
        if page.photometric == PHOTOMETRIC.MINISWHITE and page.dtype == np.uint8:  # as PIL shows it
            pixels = 255 - pixels
        return Raster(pixels, valid)


def read_label(path: str | Path, window: Window | None = None) -> np.ndarray:
    """The values (C, H, W) as they are stored, or a ``window`` of them; InputError for several pages, and JPEG."""
    with _opened(path, alone=True) as (page,):
        if page.compression in LOSSY:
            raise InputError(lossy(path))
        if (found := _pictures(page)) > 1:
            raise InputError(many_pages(path, found))
        return _stored(page, window, _nodata(page), path)


def lossy(path: str | Path) -> str:
    return f"{path} is JPEG-compressed, which smooths labels into others; save masks as PNG"


def many_pages(path: str | Path, count: int) -> str:
    return f"{path} has {count} pages, and a mask has one; save the one that is meant as a file of its own"


def read_mask(path: str | Path) -> np.ndarray | None:
    """Which pixels the file's internal mask shows (H, W) bool, upright; None where it has no mask."""
    with _opened(path, alone=True) as (page,):
        mask = _mask(page)
        return None if mask is None else _whole(mask)[0] > 0


def has_mask_beside(path: str | Path) -> bool:
    """Whether GDAL's file a.tif.msk, a TIFF whatever the image is, lies beside."""
    return Path(f"{path}.msk").is_file()


def read_mask_beside(path: str | Path) -> np.ndarray:
    """Which pixels the mask file beside an image shows (H, W) bool, as stored."""
    return read_label(f"{path}.msk").any(axis=0)


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
def _opened(path: str | Path, alone: bool = False) -> Iterator[list[TiffPage]]:
    """The pages that hold the bands of the first image; ``alone``: the first of them."""
    try:
        with TiffFile(path) as file:
            if not file.pages:
                raise InputError(f"{path} is damaged: no picture is in it; replace the file")
            yield [file.pages[0]] if alone else _bands(file, path)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # as PIL's, tifffile's decoders raise anything on damaged files
        reason = first_line(error)
        way_out = EXTRA if "imagecodecs" in reason else "replace the file"
        raise InputError(f"{path} cannot be read: {reason}; {way_out}") from error


def _bands(file: TiffFile, path: str | Path) -> list[TiffPage]:
    """The first page, or where a program has said so (ImageJ, OME, tifffile) the pages of its series, each a band."""
    if not (file.is_imagej or file.is_ome or file.is_shaped):
        return [file.pages[0]]
    series = file.series[0]
    more = series.axes.removesuffix(series.keyframe.axes)
    if not more:
        return [file.pages[0]]
    if len(more) > 1 or more not in "CQ":
        length = dict(zip(series.axes, series.shape))
        found = ", ".join(f"{AXES.get(axis, axis)}: {length[axis]}" for axis in more)
        raise InputError(
            f"{path} is a stack ({found}), and an image is one; save the one that is meant as its own file"
        )
    if None in series.pages:
        raise InputError(f"{path} is an ImageJ stack without pages, as it writes them above 4 GB; save it as OME-TIFF")
    return [page.aspage() for page in series.pages]


def _pictures(page: TiffPage) -> int:
    """How many of a file's pages are pictures: neither smaller versions of another nor masks."""
    return sum(not (one.is_reduced or one.is_mask) for one in page.parent.pages)


def _nodata(page: TiffPage) -> float | None:
    tag = page.tags.get(NODATA)
    return nodata(tag.value if tag else None)


def _alpha(page: TiffPage) -> int | None:
    """The band that says how opaque pixels are; None where there is none."""
    for index, meaning in enumerate(page.extrasamples, start=page.samplesperpixel - len(page.extrasamples)):
        if meaning in (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA):
            return index
    return None


def _mask(page: TiffPage) -> TiffPage | None:
    """The internal mask of the first page."""
    pages = (one for one in page.parent.pages if isinstance(one, TiffPage))  # frames repeat the first page
    return next((one for one in pages if one.is_mask and not one.is_reduced), None)


def _orientation(page: TiffPage) -> int:
    """How the page is turned; one that has a place on Earth is not, for GDAL and its tie points take it as stored."""
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag and not any(place in page.tags for place in PLACES) else 1


def _stored(page: TiffPage, window: Window | None, empty: float | None, path: str | Path) -> np.ndarray:
    if page.dtype is None or page.dtype.kind not in "uif":
        raise InputError(f"{path} holds {page.dtype} values; integers and floating point are read")
    if window is None or _orientation(page) != 1:
        return crop(_whole(page), window)
    return _part(page, window, 0 if empty is None else empty)


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
