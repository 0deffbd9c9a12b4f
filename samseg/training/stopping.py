"""SIGTERM: how schedulers tell a run that its machine is about to be taken away."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from samseg.data.workers import single_threaded


class StopRequest:
    """Whether this process has been asked to stop."""

    came = False

    def __call__(self) -> bool:
        return self.came


@contextmanager
def sigterm_noted() -> Iterator[StopRequest]:
    """For the block SIGTERM does not end the process, but is noted in the request that is yielded."""
    request = StopRequest()

    def note(number, frame):
        request.came = True

    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield request
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare_worker(worker: int) -> None:
    """For processes that read images: they are single-threaded, and only the run itself may end them.

    A SIGTERM that was sent to a whole group would else take them from a run that is about to save its state.
    """
    single_threaded(worker)
    if hasattr(signal, "sigwaitinfo"):  # on Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(multiprocessing.parent_process().pid,), daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
