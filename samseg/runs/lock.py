"""Locks: one living process in a run's folder, or on a map."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from samseg.common.errors import InputError
from samseg.common.files import refusals_named

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out there
    fcntl = None

LOCK = "run.lock"


def lock_run(folder: Path) -> AbstractContextManager[None]:
    """Keep every other process out of a run's ``folder`` for the block, as `locked` does by ``run.lock``."""
    return locked(folder / LOCK, folder, "run_dir")


@contextmanager
def locked(path: Path, what: Path, other: str) -> Iterator[None]:
    """Keep every other process away from ``what`` for the block; InputError, naming it, when one is there already.

    The lock is the system's own (POSIX, of this process alone: processes that read images do not inherit it), so it
    ends with the process however that ends. The file ``path`` says who holds it, and goes away with the block. Disks
    that know no locks keep nobody out. ``other``: the option or key that names another place.
    """
    if fcntl is None:
        yield
        return
    with refusals_named(what):
        file = open(path, "a+", encoding="utf-8")
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):  # any other says that the disk knows no locks
                holder = path.read_text(encoding="utf-8").strip() or "another process"
                raise InputError(
                    f"{what} is in use by {holder}: wait for it or stop it, or name another {other}"
                ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
