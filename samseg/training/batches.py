"""Which images make up each batch: a function of the seed, the epoch and the process, so that a run can be resumed."""

import random
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from samseg.common.errors import ConfigError


def epoch_seed(seed: int, epoch: int, rank: int = 0, step: int = 0) -> int:
    """A seed of its own for everything drawn in an epoch (order) or a step of it (dropout) by one process."""
    return random.Random(f"{seed} {epoch} {rank} {step}").getrandbits(63)


class EpochBatches(Sampler[list[int]]):
    """The batches of indices of one process, shuffled anew each epoch.

    Each step takes ``batch_size`` images a process, and together the processes see every image once an epoch, in the
    order that one process with so many times the batch size would. The last, short step is left out when it would
    bring a process fewer than two images and the others have more, because batch normalisation cannot train on one;
    what is left out changes from epoch to epoch. It stays when it is the only one.

    `set_epoch` may name images that are done already, by all processes: the epoch goes on behind them.
    """

    def __init__(self, images: int, batch_size: int, seed: int, rank: int = 0, processes: int = 1):
        if images < processes:
            raise ConfigError(f"{images} training images cannot be shared by {processes} processes; start fewer")
        self.images, self.batch_size, self.seed, self.rank, self.processes = images, batch_size, seed, rank, processes
        self.epoch, self.done = 0, 0

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return self._steps(self.images)

    def _steps(self, images: int) -> int:
        step = self.batch_size * self.processes
        rest = images % step
        return images // step + (0 < rest and (rest >= min(2, self.batch_size) * self.processes or self.images < step))

    def used(self) -> int:
        """Images used in an epoch by all processes together."""
        return min(self.images, len(self) * self.batch_size * self.processes)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(self.images, generator=torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch)))
        steps = self._steps(self.images - self.done)
        for batch in order[self.done :].split(self.batch_size * self.processes)[:steps]:
            yield batch[self.rank :: self.processes].tolist()
