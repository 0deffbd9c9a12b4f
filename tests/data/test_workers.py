"""Processes that read images live exactly as long as their run."""

import os
import signal
import sys
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from samseg.data.workers import prepare_worker
from tests.processes import first_line, start


class Slow(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGTERM)
        print(os.getpid(), flush=True)
        time.sleep(600)


def read() -> None:
    list(DataLoader(Slow(), num_workers=1, worker_init_fn=prepare_worker, multiprocessing_context="fork"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system's own way is Linux'")
def test_a_reader_outlives_sigterm_and_ends_with_its_killed_run(tmp_path):
    run = start(read, folder=tmp_path)
    reader = int(first_line(run, tmp_path))  # which it prints after its SIGTERM
    os.kill(reader, 0)
    run.kill()
    run.join()
    for _ in range(200):
        try:
            os.kill(reader, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(reader, signal.SIGKILL)
    pytest.fail("the reader is still there")
