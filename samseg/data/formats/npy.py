"""Labels from NumPy's own files; what cannot be read is an InputError that names the file."""

from pathlib import Path

import numpy as np

from samseg.common.errors import InputError
from samseg.data.raster import Window, rows_and_columns


def is_npy(path: str | Path) -> bool:
    return str(path).lower().endswith(".npy")


def read_label(path: str | Path, window: Window | None = None, colours: bool = False) -> np.ndarray:
    """The values of a label: (H, W) of the dtype they are stored in, true as 1, or (H, W, 3) uint8 for one in colours.

    Axes of length 1 beside H and W are left out. Raises InputError.
    """
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no array in NumPy's format, or is damaged; save the mask with np.save") from error
    values = stored
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    in_colours = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if (values.ndim != 2 and not in_colours) or values.dtype.kind not in "buif" or not values.size:
        raise InputError(
            f"{path} is an array {stored.shape} of {stored.dtype}; a mask is one of (H, W) numbers, or of (H, W, 3) "
            "uint8 for colours"
        )
    if colours and values.ndim == 2:
        raise InputError(f"{path} holds numbers, but data.classes declares colours; declare numbers")
    values = np.array(values[rows_and_columns(window)])
    return values.view(np.uint8) if values.dtype == bool else values
