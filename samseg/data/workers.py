"""The processes that read and augment images."""

import cv2


def single_threaded(worker: int = 0) -> None:
    """What such a process does first: the processes are the parallelism, so OpenCV starts no threads in them."""
    cv2.setNumThreads(0)
