"""Reading images from PNG, TIFF and JPEG files, and labels also from BMP, GIF and NPY.

What cannot be read is an InputError that names the file.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from samseg.common.errors import InputError, first_line
from samseg.data.formats import npy, tiff
from samseg.data.raster import Raster, Window, as_bands, crop, pixels_with_data, rows_and_columns

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
LABELS_ALONE = (".bmp", ".gif", ".npy")  # endings of labels, and of no images
PLUGINS = (PngImageFile, TiffImageFile, JpegImageFile)  # JPEG's also opens MPO, as some cameras and drones write it
LABEL_PLUGINS = (*PLUGINS, BmpImageFile, GifImageFile)
LOSSY = ("JPEG", "MPO", "jpeg", "tiff_jpeg")
BANDS = {"1": "L", "LA": "L", "RGBX": "RGBX"} | {mode: mode for mode in ("L", "RGB", "RGBA")}  # others are made RGB
ORIENTATION = 0x0112  # EXIF's tag
OTHERS = {  # by their first bytes: files that are no images, or none that is read
    **{rb"RIFF....WEBP": "WebP", rb"BM": "BMP", rb"GIF8": "GIF", rb"%PDF": "PDF", rb"....ftyp": "HEIF or video"},
    **{rb"\0\0\0\x0cjP": "JPEG 2000", rb"\x89HDF": "HDF5"},
}


def read_image(path: str | Path, window: Window | None = None) -> Raster:
    """All bands of an image, or of a window of it: upright by EXIF, the first of several pages.

    Palettes and CMYK become RGB, and of TIFF's 8 bits that count from white the look. Bands may be pages, as ImageJ
    and OME write channels. A pixel is not valid where it is transparent or masked, also by GDAL's file a.tif.msk, or
    where all of its bands hold TIFF's nodata value (GDAL_NODATA), for floating point where any does. A TIFF that has a
    place on Earth is not turned. Only TIFF files that PIL does not decode (deep ones, those of many bands) are read in
    parts; others are read and cut. Raises InputError for files that are missing or damaged.
    """
    if tiff.has_mask_beside(path):  # in place of all else that says so, as GDAL has it
        pixels, visible = _read(path, window).pixels, tiff.upright(tiff.read_mask_beside(path), orientation(path))
        if visible.shape != image_shape(path):
            raise InputError(f"{path}.msk is of another size than the image that it masks; write it anew, or remove it")
        return Raster(pixels, pixels_with_data(pixels, None, crop(visible, window)))
    return _read(path, window)


def _read(path: str | Path, window: Window | None) -> Raster:
    with _opened(path) as image:
        if image is None:
            return tiff.read_image(path, window)
        pixels, visible, stored, nodata = _decoded(image, path)
    pixels, stored = (crop(as_bands(layer), window) for layer in (pixels, stored))
    return Raster(pixels, pixels_with_data(stored, nodata, None if visible is None else crop(visible, window)))


def _decoded(image: Image.Image, path: str | Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, float | None]:
    """What PIL decodes, upright: pixels (H, W, C), which are visible (H, W), pixels as stored, and their nodata."""
    is_tiff = image.format == "TIFF"
    nodata = tiff.nodata(image.tag_v2.get(tiff.NODATA)) if is_tiff else None
    visible = tiff.read_mask(path) if is_tiff else None
    has_alpha = _has_alpha(image)
    if _is_deep(image):
        pixels = _deep(image, path)
        if has_alpha and pixels.ndim == 3:
            visible = pixels[..., -1] > 0
        return pixels, visible, pixels, nodata
    upright = ImageOps.exif_transpose(image)
    if has_alpha:
        opaque = np.array(upright.convert("RGBA").getchannel("A")) > 0
        visible = opaque if visible is None else visible & opaque
    mode = "LA" if image.mode == "LA" and is_tiff else BANDS.get(image.mode, "RGB")
    pixels = np.array(upright.convert(mode))
    if image.mode == "P":
        return pixels, visible, np.array(upright), nodata
    return pixels, visible, 255 - pixels if is_tiff and _counts_from_white(image) else pixels, nodata


def image_shape(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image that stands upright, from its header alone."""
    with _opened(path) as image:
        if image is None:
            return tiff.shape(path)
        width, height = image.size
        if image.format == "TIFF":  # PIL may have turned the size
            width, height = image.tag_v2[tiff.WIDTH], image.tag_v2[tiff.HEIGHT]
        return (width, height) if image.getexif().get(ORIENTATION, 1) > 4 else (height, width)


def orientation(path: str | Path) -> int:
    """How EXIF turns an image or a label: 1 not at all, 2 to 4 mirrored or upside down, 5 to 8 on its side."""
    if npy.is_npy(path):
        return 1
    with _opened(path, LABEL_PLUGINS) as image:
        return tiff.orientation(path) if image is None else image.getexif().get(ORIENTATION, 1)


def may_lack_data(path: str | Path) -> bool:
    """Whether some pixels may hold no data: there is a nodata value, transparency or a mask, or floating point."""
    with _opened(path) as image:
        if image is None or tiff.has_mask_beside(path):
            return tiff.has_mask_beside(path) or tiff.may_lack_data(path)
        return _has_alpha(image) or (
            image.format == "TIFF" and (tiff.NODATA in image.tag_v2 or tiff.read_mask(path) is not None)
        )


def read_label(path: str | Path, window: Window | None = None, colours: bool = False) -> np.ndarray:
    """The raw values of a label: (H, W) of the dtype they are stored in, or (H, W, 3) uint8 for one in colours.

    A palette image gives its indices, or the palette's colours if ``colours``; a GIF of greys, which is always one of
    a palette, its greys. Three equal channels are one. White in a 1-bit mask is 255, as in 8-bit grey (and as PIL reads
    2 and 4 bits); TIFF's that count from white are numbers as stored, too. Raises InputError also for what cannot be a
    label: JPEG, transparency, several deep channels.
    """
    if npy.is_npy(path):
        return npy.read_label(path, window, colours)
    with _opened(path, LABEL_PLUGINS) as label:
        if label is None:
            values = tiff.read_label(path, window)
            if len(values) != 1 or colours:
                raise InputError(_deep_colours(path, f"{len(values)} channels of {values.dtype}"))
            return values[0]
        pages = label.n_frames if label.format == "GIF" else 1
        if label.format == "TIFF" and label.is_animated:
            pages = tiff.pages(path)  # without overviews and masks
            if (mask := tiff.read_mask(path)) is not None and not mask.all():
                raise InputError(_transparent(path))
        if pages > 1:
            raise InputError(tiff.many_pages(path, pages))
        if label.format in LOSSY or label.info.get("compression") in LOSSY:
            raise InputError(tiff.lossy(path))
        if _is_deep(label):
            values = _deep(label, path)
            if values.ndim == 3 or colours:
                raise InputError(_deep_colours(path, label.mode))
            return crop(values, window)
        return _shallow_label(label, path, colours)[rows_and_columns(window)]


def _open_image(file: BinaryIO, path: str | Path, plugins: tuple[type[ImageFile], ...]) -> Image.Image:
    """`Image.open` without its limit of 180 megapixels: aerial mosaics are larger, and they are the user's own.

    The limit is a global of PIL's, which is the host's to set. So the formats' readers are asked as `Image.open` asks
    them, one after the other, without it.
    """
    start = file.read(16)
    for plugin in plugins:
        reader, accepts = Image.OPEN[plugin.format]
        if accepts(start):
            file.seek(0)
            try:
                return reader(file, str(path))
            except (SyntaxError, IndexError, TypeError, struct.error) as error:  # not this format, or damaged
                raise Image.UnidentifiedImageError(f"cannot identify image file {path}") from error
    raise Image.UnidentifiedImageError(f"cannot identify image file {path}")


@contextmanager
def _opened(path: str | Path, plugins: tuple[type[ImageFile], ...] = PLUGINS) -> Iterator[Image.Image | None]:
    """The file as PIL opens it, or None for a TIFF that PIL cannot decode, or not at its full depth."""
    try:
        with open(path, "rb") as file, _open_image(file, path, plugins) as image:
            yield None if image.format == "TIFF" and _is_for_tifffile(image, path) else image
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except Image.UnidentifiedImageError as error:
        with open(path, "rb") as file:
            start = file.read(512)
        if not start.startswith(tiff.MAGIC):
            raise InputError(f"{path} {_what_it_is(start)}") from error
    except Exception as error:  # on damaged files PIL's decoders raise anything from SyntaxError to struct.error
        raise InputError(f"{path} cannot be read: {first_line(error)}; replace the file") from error
    else:
        return
    yield None


def _what_it_is(start: bytes) -> str:
    """What is wrong with a file that ``start``s as none of the formats read here."""
    found = next((name for magic, name in OTHERS.items() if re.match(magic, start, re.DOTALL)), None)
    if not start:
        return "is empty; replace the file"
    if found is not None:
        return f"is a {found} file; PNG, TIFF and JPEG images are read: convert it"
    if not start.strip(b"\0"):
        return "begins with zeros, as files do that were cut off while they were copied; replace the file"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return "is damaged; replace the file"
    if all(byte > 31 or byte in b"\t\r\n" for byte in start):
        return "holds text, not an image; replace the file"
    return "is no PNG, TIFF or JPEG image; replace the file"


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits. For RGB only the decoder's arguments tell: PIL keeps the high byte."""
    return image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in image.tile)


def _is_for_tifffile(image: Image.Image, path: str | Path) -> bool:
    """Whether PIL would leave out bands or bits of a TIFF, turn it, or read all of it where a window would do."""
    bands, placed = image.tag_v2.get(tiff.SAMPLES, 1), any(tag in image.tag_v2 for tag in tiff.PLACES)
    return (
        bands > len(image.getbands())
        or (placed and image.tag_v2.get(tiff.ORIENTATION, 1) != 1)  # PIL would turn it
        or (_is_deep(image) and (bands > 1 or image.info.get("compression") in tiff.COMPRESSIONS))
        or tiff.has_bands_in_pages(path)
    )


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _counts_from_white(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF, which PIL turns round where there are 8 bits or fewer."""
    return image.tag_v2.get(tiff.PHOTOMETRY) == 0 and image.mode in ("1", "L")


def _deep(image: Image.Image, path: str | Path) -> np.ndarray:
    """A TIFF of one deep band (H, W), or a PNG of 16 bits a channel, (H, W) or (H, W, C) uint16; upright."""
    if image.format == "TIFF":
        return np.array(ImageOps.exif_transpose(image))
    image.load()  # raises for a damaged file, which OpenCV would read in part; PIL in turn keeps the high byte alone
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values.ndim == 3:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    return tiff.upright(values, image.getexif().get(ORIENTATION, 1))


def _shallow_label(label: Image.Image, path: str | Path, colours: bool) -> np.ndarray:
    greys = label.format == "GIF" and label.mode == "P" and _is_grey(label)
    turned = label.format == "TIFF" and _counts_from_white(label)
    label = _opaque(ImageOps.exif_transpose(label), path)
    if label.mode not in ("1", "L", "P", "RGB"):
        raise InputError(f"{path} is a {label.mode} image; save masks as grey, palette or RGB PNG")
    if colours:
        values = np.array(label.convert("RGB"))
        return 255 - values if turned else values
    values = np.array(label.convert("L") if label.mode == "1" or greys else label)
    if turned:
        values = 255 - values
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = np.ascontiguousarray(values[..., 0])
    return values


def _is_grey(label: Image.Image) -> bool:
    """Whether the colours of a palette are greys."""
    palette = np.reshape(label.getpalette("RGB"), (-1, 3))
    return bool((palette == palette[:, :1]).all())


def _opaque(label: Image.Image, path: str | Path) -> Image.Image:
    """``label`` without its alpha channel, which must not hide anything."""
    bands = label.getbands()
    if "A" not in bands and "a" not in bands:
        return label
    if label.getchannel(len(bands) - 1).getextrema()[0] < 255:
        raise InputError(_transparent(path))
    return label.convert("RGB" if len(bands) == 4 else "L")


def _transparent(path: str | Path) -> str:
    return f"{path} has transparent pixels, which have no class; save the mask without an alpha channel"


def _deep_colours(path: str | Path, found: str) -> str:
    return f"{path} has more than 8 bits a channel ({found}); save masks in colours as 8-bit RGB PNG"
