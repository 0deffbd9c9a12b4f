"""The loader of images for training, validation and the feature cache."""

from typing import Any

from torch.utils.data import DataLoader, Dataset

from samseg.data.workers import LINUX, expect_workers, prepare_reader


class Loader(DataLoader):
    """A DataLoader that reads in ``workers`` processes, which end with `close` or with this one; 0: in this one.

    What it is given is pickled for them. On Linux they are forked from a server, which is started here if it does not
    run yet; elsewhere they are started as Python does there. The loader waits for them as long as a disk takes to
    answer, and notices when one has died.
    """

    def __init__(self, dataset: Dataset, workers: int, **options: Any):
        if workers and LINUX:
            from samseg.data.fork_server import Context

            expect_workers(workers)
            options["multiprocessing_context"] = Context()
        stay = workers > 0
        super().__init__(
            dataset, num_workers=workers, persistent_workers=stay, worker_init_fn=prepare_reader, **options
        )

    def close(self) -> None:
        """End the processes. The garbage collector would close their queues first: they would not hear that they are
        to end, be waited for for five seconds each, and stay."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()
            self._iterator = None
