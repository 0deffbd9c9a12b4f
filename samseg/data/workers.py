"""The processes that read and augment images."""

import multiprocessing
import os
import platform
import signal
import threading
from multiprocessing.process import BaseProcess
from typing import Any

import cv2

LINUX = platform.system() == "Linux"


def in_workers(workers: int) -> dict[str, Any]:
    """Arguments of a DataLoader that reads in so many processes, which end with this one; 0: in this one.

    What the loader is given is pickled for them. On Linux they are forked from a server, which is started here if it
    does not run yet; elsewhere they are started as Python does there. The loader waits for them as long as a disk takes
    to answer, and notices when one has died.
    """
    options = {"num_workers": workers, "worker_init_fn": _prepare}
    if workers and LINUX:
        from samseg.data.fork_server import Context

        expect_workers(workers)
        options["multiprocessing_context"] = Context()
    return options


def expect_workers(workers: int) -> None:
    """Start the server if there will be ``workers``, so that it imports what they need while this process is busy."""
    if workers and LINUX:
        from samseg.data.fork_server import SERVER

        SERVER.ensure_running()


def single_threaded() -> None:
    """OpenCV starts no threads in this process: the processes are the parallelism."""
    cv2.setNumThreads(0)


def _prepare(worker: int) -> None:
    """Set a reading process up: no threads that compute, and it ends with the run and not before."""
    single_threaded()
    if LINUX:  # elsewhere torch looks after them
        parent = multiprocessing.parent_process()  # the run; the system's parent is the server
        end_with(parent)
        threading.Thread(target=_obey, args=(parent,), daemon=True).start()


def end_with(parent: BaseProcess) -> None:
    """Let this process end when its ``parent`` has ended, however that was."""

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _obey(parent: BaseProcess) -> None:
    """End by the run's SIGTERM, and by no other's, which the server has blocked.

    One that was sent to a whole group would else take readers from a run that is about to save its state.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)
