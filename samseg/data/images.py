"""Reading images and masks from PNG, TIFF and JPEG files; what cannot be read is an InputError that names the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from samseg.errors import InputError

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
FORMATS = ("PNG", "TIFF", "JPEG", "MPO")  # MPO: a JPEG with a second view, as some cameras and drones write it
LOSSY = ("JPEG", "MPO", "jpeg", "tiff_jpeg")

# PIL refuses images above 180 megapixels as possible attacks; aerial mosaics are larger, and they are the user's own.
Image.MAX_IMAGE_PIXELS = None


def list_images(folder: str | Path) -> list[Path]:
    """The PNG, TIFF and JPEG files in ``folder`` by suffix (any case), sorted; hidden files are left out."""
    return sorted(
        Path(entry.path)
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
    )


def read_image(path: str | Path) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB: upright by EXIF, grey repeated, alpha dropped, the first of several pages.

    Raises InputError for files that are missing, damaged, or have more than 8 bits a channel.
    """
    with _opened(path) as image:
        if _is_deep(image):
            raise InputError(
                f"{path} has more than 8 bits a channel ({image.mode}); convert it to 8 bits with the scale you want, "
                "for instance gdal_translate -ot Byte -scale"
            )
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def image_area(path: str | Path) -> int:
    """Pixels of an image, from its header alone."""
    with _opened(path) as image:
        return image.width * image.height


def read_mask_values(path: str | Path, colours: bool = False) -> np.ndarray:
    """The raw values of a mask: (H, W) uint8 or uint16, or (H, W, 3) uint8 for a mask in colours.

    A palette image gives its indices, or the palette's colours if ``colours``. Three equal channels are one. White in
    a 1-bit mask is 255, as in 8-bit grey (and as PIL reads 2 and 4 bits). Floating point is read if every value is
    a whole number. Raises InputError also for what cannot be a mask: JPEG, transparency, values beyond 16 bits.
    """
    with _opened(path) as mask:
        if mask.format in LOSSY or mask.info.get("compression") in LOSSY:
            raise InputError(f"{path} is JPEG-compressed, which smooths labels into others; save masks as PNG")
        if _is_deep(mask):
            return _whole_numbers(mask, path, colours)
        mask = _opaque(ImageOps.exif_transpose(mask), path)
        if mask.mode not in ("1", "L", "P", "RGB"):
            raise InputError(f"{path} is a {mask.mode} image; save masks as grey, palette or RGB PNG")
        if colours:
            return np.array(mask.convert("RGB"))
        values = np.array(mask.convert("L") if mask.mode == "1" else mask)
        if values.ndim == 3 and (values == values[..., :1]).all():
            values = np.ascontiguousarray(values[..., 0])
        return values


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{path} cannot be read: it is damaged, or no 8-bit PNG, TIFF or JPEG image") from error
    except Exception as error:  # on damaged files PIL's decoders raise anything from SyntaxError to struct.error
        reason = str(error).split("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}; replace the file") from error


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits. For RGB only the decoder's arguments tell: PIL keeps the high byte."""
    return image.mode.startswith(("I", "F")) or any(";16" in str(tile[3]) for tile in image.tile)


def _whole_numbers(mask: Image.Image, path: str | Path, colours: bool) -> np.ndarray:
    """A one-channel mask of 16 or 32 bits, integer or floating point, as (H, W) uint16."""
    if colours or not mask.mode.startswith(("I", "F")):
        raise InputError(f"{path} has more than 8 bits a channel ({mask.mode}); save masks in colours as 8-bit RGB PNG")
    values = np.array(ImageOps.exif_transpose(mask))
    if not ((values >= 0) & (values < 2**16) & (values == np.floor(values))).all():  # false for NaN as well
        raise InputError(f"{path} holds values that are not whole numbers from 0 to 65535; save the mask as 8-bit PNG")
    return values.astype(np.uint16)


def _opaque(mask: Image.Image, path: str | Path) -> Image.Image:
    """``mask`` without its alpha channel, which must not hide anything."""
    bands = mask.getbands()
    if "A" not in bands and "a" not in bands:
        return mask
    if mask.getchannel(len(bands) - 1).getextrema()[0] < 255:
        raise InputError(f"{path} has transparent pixels, which have no class; save the mask without an alpha channel")
    return mask.convert("RGB" if len(bands) == 4 else "L")
