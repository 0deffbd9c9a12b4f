"""Files that end with the digest of their content: a changed one is not read."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samseg.common.files import Sink

MARK = b"\nsha256 "
LENGTH = len(MARK) + 64
CHUNK = 2**22  # bytes read at a time


@contextmanager
def sealed(path: Path) -> Iterator[Sink]:
    """Write a file through the sink that is yielded; its digest follows at the end.

    Readers that look for the end of a zip archive, such as torch, step over it.
    """
    with open(path, "wb") as file:
        sink = HashingSink(file)
        yield sink
        sink.finish()
        file.write(MARK + sink.total.hexdigest().encode())


class HashingSink(Sink):
    def __init__(self, file):
        super().__init__(file)
        self.total = hashlib.sha256()

    def write(self, data) -> int:
        self.total.update(data)
        return super().write(data)


def broken(path: Path) -> bool:
    """Whether the digest at the file's end is not that of its content. False if there is none, as in older files."""
    with open(path, "rb") as file:
        left = os.fstat(file.fileno()).st_size - LENGTH
        total = hashlib.sha256()
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            total.update(chunk)
            left -= len(chunk)
        end = file.read()
    return end.startswith(MARK) and end != MARK + total.hexdigest().encode()
