"""The processes that read and augment images."""

import multiprocessing
import os
import platform
import signal
import threading
from multiprocessing.process import BaseProcess

import cv2

LINUX = platform.system() == "Linux"


def expect_workers(workers: int) -> None:
    """Start the server if there will be ``workers``, so that it imports what they need while this process is busy."""
    if workers and LINUX:
        from samseg.data.fork_server import SERVER

        SERVER.ensure_running()


def single_threaded() -> None:
    """OpenCV starts no threads in this process: the processes are the parallelism."""
    cv2.setNumThreads(0)


def prepare_reader(worker: int) -> None:
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
