"""SIGTERM: how schedulers tell a run that its machine is about to be taken away."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StopRequest:
    """Whether this process has been asked to stop."""

    came = False

    def __call__(self) -> bool:
        return self.came


@contextmanager
def sigterm_noted(then: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Yield a request that notes SIGTERM, which then does not end the process but calls ``then``, for the block."""
    request = StopRequest()

    def note(number, frame):
        request.came = True
        if then is not None:
            then()

    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to the main thread only
        yield request
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
