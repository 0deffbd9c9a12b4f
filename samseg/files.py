"""Files: written whole or not at all, read by a few threads."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READERS = min(4, os.cpu_count() or 1)  # threads that read files: decoding and checksums leave Python's lock to others


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends, delete it when it fails.

    A reader sees the old file or the new one, never a part of either, even if the process is killed in between. The
    temporary name keeps the suffix, so writers that go by it (PIL, pandas) work.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())  # mkstemp makes private files; a run folder is shared like any other file
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
