"""Reading ahead: what a generator yields, made in a thread of its own."""

import threading
from collections.abc import Generator, Iterator
from queue import Full, Queue
from typing import TypeVar

T = TypeVar("T")
END = object()


def ahead(items: Generator[T, None, None], depth: int) -> Iterator[T]:
    """Yield what ``items`` yields, which runs in a thread, at most ``depth`` items ahead; what it raises is raised.

    Closing this generator ends the thread at its next item.
    """
    queue: Queue = Queue(depth)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                queue.put(item, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((END, None))
        except BaseException as error:  # noqa: B036 (it is raised where it is waited for)
            put((END, error))
        finally:
            items.close()  # here, for what it holds open belongs to this thread

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()  # the thread puts a last one, whatever happens to it
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()  # as long as a read takes: what it holds open is to be closed
