"""The progress bar of an epoch: loss, images per second, the time left of the epoch and of the run."""

import time

from tqdm import tqdm


class Progress:
    """Bars over the epochs of a run, on a terminal only; elsewhere the line per epoch has to do.

    Args:
        images: images an epoch, over all processes.
        epochs_left: epochs still to be run, if none of them stops it early.
        seconds_left: the time that the run has left at most.
        shown: False on all processes but the main one.
    """

    def __init__(self, images: int, epochs_left: int, seconds_left: float, shown: bool):
        self.images, self.left, self.seconds_left, self.shown = images, images * epochs_left, seconds_left, shown
        self.started, self.done = time.monotonic(), 0

    def bar(self, title: str, done: int = 0) -> tqdm:
        """Start an epoch's bar behind the images that are ``done``; to be used as a context, which takes it away."""
        self.current = tqdm(
            total=self.images, initial=done, desc=title, unit="image", leave=False, disable=None if self.shown else True
        )
        self.done = done
        self.left -= done
        return self.current

    def step(self, images: int, loss: float) -> None:
        """Count a step of about ``images`` and show its ``loss``.

        The time left of the run goes by the time of all its images so far, validation included.
        """
        images = min(images, self.images - self.done)  # processes share a short last step unevenly
        self.done += images
        self.left -= images
        self.done += images
        elapsed = time.monotonic() - self.started
        run_left = max(0, min(elapsed / self.done * self.left, self.seconds_left - elapsed))
        self.current.set_postfix_str(f"loss {loss:.4f}, run {tqdm.format_interval(run_left)} left", refresh=False)
        self.current.update(images)
