"""One living run a folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samseg.errors import InputError
from samseg.files import refusals_named

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out there
    fcntl = None

LOCK = "run.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep every other process out of ``folder`` for the block; InputError, naming it, when one is there already.

    The lock is the system's own (POSIX, of this process alone: processes that read images do not inherit it), so it
    ends with the process however that ends. ``run.lock`` says who holds it, and goes away with the block.
    """
    if fcntl is None:
        yield
        return
    path = folder / LOCK
    with refusals_named(path):
        file = open(path, "a+", encoding="utf-8")
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = path.read_text(encoding="utf-8").strip() or "another process"
            raise InputError(
                f"{folder} is in use by {holder}: wait for it or stop it, or name another run_dir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
