"""The processes that read and augment images."""

import ctypes
import multiprocessing
import os
import platform
import signal
import threading

import cv2

PR_SET_PDEATHSIG = 1  # Linux' sys/prctl.h


def prepare_worker(worker: int) -> None:
    """What such a process does first: it starts no threads, and ends with the run that started it, not before."""
    single_threaded()
    _live_with_parent()


def single_threaded() -> None:
    """OpenCV starts no threads in this process: the processes are the parallelism."""
    cv2.setNumThreads(0)


def sent_when_parent_ends(number: signal.Signals) -> bool:
    """Have the system send this process the signal as soon as its parent ends; whether it can (Linux does)."""
    if platform.system() != "Linux":
        return False
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    return True


def _live_with_parent() -> None:
    """End with the parent, however that ends, and by no other's SIGTERM. On Linux; elsewhere nothing is done.

    A SIGTERM that was sent to a whole group would else take readers from a run that is about to save its state.
    """
    if not sent_when_parent_ends(signal.SIGKILL):
        return
    parent = multiprocessing.parent_process()
    if not parent.is_alive():  # it was killed before this was asked for
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey, args=(parent.pid,), daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
