"""Uploads of visitors: read within limits, deleted at once."""

from pathlib import Path

from samseg.common.errors import InputError
from samseg.data.formats.images import image_shape, read_image
from samseg.data.raster import Raster

UPLOAD_MB = 64
MOST_PIXELS = 4096 * 4096
PREVIEW_PX = 2048  # longest side of a map's preview


def read_upload(path: str | Path, own: bool = False) -> Raster:
    """All bands of an uploaded image, or a map's preview; InputError, in one line, for anything else.

    The file is deleted whatever comes of it, unless it is the machine's ``own``.
    """
    path = Path(path)
    try:
        return _map_preview(path) or _image(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), path.name)) from None  # the folder is nobody's business
    finally:
        if not own:
            path.unlink(missing_ok=True)


def _image(path: Path) -> Raster:
    height, width = image_shape(path)
    if height * width > MOST_PIXELS:
        raise InputError(
            f"{path.name} is {width} x {height} pixels, more than the page takes ({MOST_PIXELS / 1e6:.0f} million): "
            "shrink it, or use samseg infer, which takes any size"
        )
    return read_image(path)


def _map_preview(path: Path) -> Raster | None:
    """A map, shrunk to `PREVIEW_PX` by its overviews; None for what is none, or where rasterio is not installed."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        import rasterio
        from rasterio.errors import RasterioError
    except ImportError:
        return None
    try:
        with rasterio.open(path) as map_file:
            shrink = PREVIEW_PX / max(map_file.shape)
            if shrink >= 1 or map_file.crs is None:
                return None
            shape = [max(1, round(side * shrink)) for side in map_file.shape]
            pixels = map_file.read(out_shape=(map_file.count, *shape))
            valid = map_file.dataset_mask(out_shape=tuple(shape)) > 0
    except RasterioError as error:
        raise InputError(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None
    return Raster(pixels, None if valid.all() else valid)
