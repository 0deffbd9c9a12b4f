"""Many images, each to files of its own: no two of one name, and one that cannot be done does not stop the others."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import cv2
import torch
from tqdm import tqdm

from samseg.common.errors import InputError
from samseg.common.files import WriteError
from samseg.common.machine import memory_bytes
from samseg.data.formats.images import image_shape

LEGEND = "legend.png"  # lies in every folder of class maps, and says that it is one
LEAST_BYTES = 8  # a pixel: three bands, the picture of them, a class and a border


def each_image(images: list[Path], do: Callable[[Path], None]) -> list[Path]:
    """Call ``do`` with each of ``images``, behind a progress bar; returns those that it could do.

    An image that cannot be read, or does not fit into memory, is reported and skipped. WriteError is raised: what one
    file cannot have the others will not have.
    """
    done = []
    for path in tqdm(images, unit="image", disable=None):
        try:
            _check_memory(path)
            do(path)
        except WriteError:
            raise
        except (InputError, MemoryError, RuntimeError, cv2.error) as error:
            if not isinstance(error, InputError) and not _out_of_memory(error):
                raise
            reason = error if isinstance(error, InputError) else f"{path} is too large for this machine's memory"
            tqdm.write(f"skipped: {reason}", file=sys.stderr)
        else:
            done.append(path)
    return done


def output_folder(out: Path) -> None:
    """Make the folder ``out``; InputError where that cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out} ({error.strerror}); name another with --out") from None


def check_names(images: Iterable[Path], out: Path) -> None:
    """`check_stems` of photos; besides, no file may be lost that no earlier call has written, such as a mask."""
    images = list(images)
    check_stems(images, out, ".png", {Path(LEGEND).stem: "the legend of the colours"})
    if (out / LEGEND).exists():
        return
    for image in images:
        if (file := out / f"{image.stem}.png").exists():
            raise InputError(f"{file} exists, and {out} holds no class maps ({LEGEND} is missing); name another --out")


def check_stems(inputs: Iterable[Path], out: Path, ending: str, taken: Mapping[str, str] | None = None) -> None:
    """InputError where ``out``/STEM+``ending`` would be written for two ``inputs``, or ``out`` holds one of them.

    ``taken``: stems that are in use already, and by what.
    """
    taken = dict(taken or {})
    for path in inputs:
        if path.stem in taken:
            raise InputError(
                f"{path} and {taken[path.stem]} would both be written to {out / path.stem}{ending}; rename one, or "
                "give them to two calls with different --out"
            )
        if path.resolve().parent == out.resolve():
            raise InputError(f"{out} holds the input {path.name}, which could be overwritten; name another --out")
        taken[path.stem] = str(path)


def _check_memory(path: Path) -> None:
    """MemoryError for an image whose pixels and classes alone are more than the machine has: it would end us."""
    height, width = image_shape(path)
    total = memory_bytes()
    if total is not None and LEAST_BYTES * height * width > total:
        raise MemoryError


def _out_of_memory(error: Exception) -> bool:
    """Whether numpy, torch or OpenCV say so."""
    words = ("can't allocate memory", "Insufficient memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)
