"""Writing files whole or not at all, and telling their contents apart."""

import errno
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from samseg.common.errors import InputError

READERS = min(4, os.cpu_count() or 1)  # threads that read: decoding and checksums leave Python's lock to others
BLOCK = 2**20  # bytes read at a time
FULL = (errno.ENOSPC, errno.EDQUOT)
SYSTEM_ERROR = re.compile(r"os error (\d+)")  # how safetensors' errors name the system's


class WriteError(InputError):
    """A file cannot be written: its disk is full or read-only, its folder is not ours.

    Attributes:
        errno: the system's number of the reason.
        full: whether there is no room.
    """

    def __init__(self, path: object, number: int):
        self.errno, self.full = number, number in FULL
        way_out = "make room there, or name another place" if self.full else "name another place"
        super().__init__(f"{path} cannot be written ({os.strerror(number)}): {way_out}")


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends, delete it when it fails.

    A reader sees the old file or the new one, never a part of either, even if the process is killed in between. The
    temporary name keeps the suffix, so writers that go by it work. Raises WriteError for what the system refuses.
    """
    path = Path(path)
    with refusals_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        temporary = Path(name)
        try:
            os.close(handle)
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes private files; a run folder is shared like any other file
            yield temporary
            with open(temporary, "r+b") as written:  # Windows flushes only what is open for writing
                os.fsync(written.fileno())
            os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` whole or not at all.

    For what PIL and its like encode: to a file they write without looking at how much of it the disk took.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(data)
        if (found := temporary.stat().st_size) != len(data):
            raise OSError(errno.EIO, f"{found} of {len(data)} bytes arrived")


def write_json(content: dict, path: Path) -> None:
    """Write ``content`` whole or not at all, for people to read."""
    write_bytes(path, f"{json.dumps(content, indent=2)}\n".encode())


def sweep(path: Path) -> None:
    """Delete what killed processes left of ``path`` half written; nobody may be writing it.

    A ``*`` in its name stands for any letters, digits and underscores.
    """
    # The names of `written_whole`, and of files that a writer lays beside its own: a journal, a second part.
    stem = re.escape(path.stem).replace(r"\*", r"\w*")
    ours = rf"\.{stem}-\w{{8}}(_temp)?{re.escape(path.suffix)}"
    if path.suffix == ".safetensors":
        ours += r"|\.tmp\w{6}"  # its library's own
    for file in path.parent.glob(".*"):
        if re.match(ours, file.name):
            file.unlink(missing_ok=True)


@contextmanager
def refusals_named(path: object) -> Iterator[None]:
    """Turn what the system refuses within the block, which writes to ``path``, into a WriteError."""
    try:
        yield
    except Exception as error:
        number = _system_error(error)
        if number is None:
            raise
        raise WriteError(path, number) from error


class Sink(io.RawIOBase):
    """A file for writers that end the process when they cannot write, as torch's do: it takes everything.

    `finish` raises the error that came between.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.error = file, None

    def write(self, data) -> int:
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def writable(self) -> bool:
        return True

    def finish(self) -> None:
        if self.error is not None:
            raise self.error
        self.file.flush()


def file_digest(file: Path) -> str:
    """SHA-256 (hexadecimal) of a file's bytes."""
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _system_error(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = None if isinstance(error, InputError) else SYSTEM_ERROR.search(str(error))
    return int(found[1]) if found else None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
