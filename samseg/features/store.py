"""The cache of a frozen encoder's features on disk: what SAM makes of each image, computed once and read ever after."""

import hashlib
import json
import mmap
import os
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from samseg.common.errors import InputError, first_line
from samseg.common.files import READERS, WriteError, written_whole
from samseg.data.sources import Source

FORMAT = 1  # to be raised when the same recipe gives other numbers, or the files are laid out otherwise
DTYPES = ("float16", "bfloat16", "float32")
SUFFIX = ".safetensors"
DAY_S = 24 * 60 * 60


def cache_folder(given: str | None) -> Path:
    """``train.cache_dir``, or samseg's part of the user's cache folder."""
    if given is not None:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "samseg" / "features"


class FeatureStore:
    """The taps of images, a file for each image and view: ``folder / <digest of the image>-<view>.safetensors``.

    ``recipe`` is all that the taps depend on besides the image: encoder, digest of its weights, preprocessing, dtype.
    Its digest is in the folder's name, so that what was computed in another way is never found, and runs that compute
    the same share it. A file appears whole or not at all, and carries a checksum. The store can be pickled and forked:
    nothing is held open.

    Args:
        root: holds a folder for each recipe.
        name: begins the folder's name, for people.
        recipe: plain values; ``recipe["dtype"]`` is what the taps are stored in.
    """

    def __init__(self, root: Path, name: str, recipe: dict[str, Any]):
        self.recipe = recipe | {"format": FORMAT}
        text = json.dumps(self.recipe, sort_keys=True)
        self.folder = root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
        self.dtype = getattr(torch, recipe["dtype"])
        self._digests: dict[tuple[str, str], str] = {}  # by split and name

    def add(self, source: Source) -> None:
        """Read the images of ``source`` for their digests; only images that were added can be asked for."""
        with ThreadPoolExecutor(READERS) as pool:
            digests = pool.map(source.digest, source.names)
            self._digests |= {(source.split, name): digest for name, digest in zip(source.names, digests, strict=True)}

    def path(self, source: Source, name: str, view: int) -> Path:
        return self.folder / f"{self._digests[source.split, name]}-{view}{SUFFIX}"

    def read(self, source: Source, name: str, view: int) -> list[Tensor]:
        """The taps of an image, (h, w, C) each, mapped into memory and not to be written to.

        InputError for a file that went missing or was altered since the run began. The checksum of ViT-B's taps at 1024
        px, 27 MB, takes some 10 ms, in the process that reads.
        """
        path = self.path(source, name, view)
        try:
            with open(path, "rb") as file:
                reason = None if _is_sound(file) else "their checksum is another"
            if reason is None:
                with safe_open(path, framework="pt") as file:
                    return [file.get_tensor(str(i)) for i in range(len(file.keys()))]
        except (OSError, SafetensorError) as error:
            reason = first_line(error)
        raise InputError(
            f"{path}, the features of {source.image_file(name)}, cannot be read ({reason}); train.resume=true computes "
            "them again and goes on"
        )

    def write(self, source: Source, name: str, view: int, taps: list[Tensor]) -> None:
        """Store taps (C, h, w). InputError when they do not fit into the dtype, or the disk does not take them."""
        tensors = {str(i): tap.to(self.dtype).permute(1, 2, 0).contiguous() for i, tap in enumerate(taps)}
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise InputError(
                f"the features of {source.image_file(name)} hold values beyond {self.recipe['dtype']}; set "
                "train.cache_dtype=bfloat16"
            )
        path = self.path(source, name, view)
        try:
            with written_whole(path) as temporary:
                temporary.write_bytes(_packed(tensors))
        except WriteError as error:
            raise InputError(
                f"features cannot be written to {self.folder} ({os.strerror(error.errno)}); "
                + ("make room there, or " if error.full else "")
                + "name another folder with train.cache_dir; those that are written stay"
            ) from error

    def sweep(self) -> None:
        """Delete what killed processes left half written; what is younger than a day may still be written on."""
        for file in self.folder.glob(f".*{SUFFIX}"):
            if time.time() - file.stat().st_mtime > DAY_S:
                file.unlink(missing_ok=True)

    def state(self, source: Source, name: str, view: int) -> str:
        """ "sound", "missing" or "damaged" (cut short, or its checksum fails): all of the file is read."""
        try:
            with open(self.path(source, name, view), "rb") as file:
                return "sound" if _is_sound(file) else "damaged"
        except FileNotFoundError:
            return "missing"
        except OSError:
            return "damaged"


def _packed(tensors: dict[str, Tensor]) -> bytes:
    """safetensors with the checksum of its data in the header. Without the header's own metadata lengths stay equal."""
    data = save(tensors)
    start = 8 + int.from_bytes(data[:8], "little")
    return save(tensors, metadata={"crc32": f"{zlib.crc32(memoryview(data)[start:]):08x}"})


def _is_sound(file) -> bool:
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:start])
            with memoryview(data) as view, view[start:] as body:
                complete = len(body) == max(entry["data_offsets"][1] for key, entry in header.items() if key.isdigit())
                return complete and f"{zlib.crc32(body):08x}" == header["__metadata__"]["crc32"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):  # an empty file, a header that is no JSON
        return False
