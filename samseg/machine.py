"""The machine a process runs on: its memory, and how processes that read images live on it."""

import ctypes
import multiprocessing
import os
import platform
import signal
import threading

PR_SET_PDEATHSIG = 1  # Linux' sys/prctl.h


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, and systems without these names
        return None


def live_with_parent(worker: int) -> None:
    """For processes that read images: they end with the run that started them, however that ends, and not before.

    A SIGTERM that was sent to a whole group would else take them from a run that is about to save its state. On Linux;
    elsewhere they are left as torch has them.
    """
    if platform.system() != "Linux":
        return
    parent = multiprocessing.parent_process()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if not parent.is_alive():  # it was killed before this was asked for
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey, args=(parent.pid,), daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
