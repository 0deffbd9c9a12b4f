"""Processes that read images live exactly as long as their run."""

import os
import signal
import subprocess
import sys
import time

import pytest

RUN = """
import os, signal, time
from torch.utils.data import DataLoader, Dataset
from samseg.data.workers import prepare_worker

class Slow(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGTERM)
        print(os.getpid(), flush=True)
        time.sleep(600)

if __name__ == "__main__":
    list(DataLoader(Slow(), num_workers=1, worker_init_fn=prepare_worker))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system's own way is Linux'")
def test_a_reader_outlives_sigterm_and_ends_with_its_killed_run():
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    reader = int(run.stdout.readline())  # which it prints after its SIGTERM
    os.kill(reader, 0)
    run.send_signal(signal.SIGKILL)
    run.communicate()  # ends once nobody holds its output any more
    for _ in range(200):
        try:
            os.kill(reader, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(reader, signal.SIGKILL)
    pytest.fail("the reader is still there")
