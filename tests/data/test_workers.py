"""Processes that read images begin clean, live exactly as long as their run, and know what its main module defines."""

import os
import runpy
import signal
import sys
import time
from contextlib import closing

import pytest
from torch.utils.data import Dataset

from benchmarks.victims import alive
from samseg.data.loader import Loader
from tests.processes import first_line, kill, start, wait_until

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fork server is Linux'")


class Slow(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGTERM)
        print(os.getpid(), flush=True)
        time.sleep(600)


def read() -> None:
    list(Loader(Slow(), 1))


@linux
def test_a_reader_outlives_sigterm_and_ends_with_its_killed_run(tmp_path):
    run = start(read, folder=tmp_path)
    reader = int(first_line(run, tmp_path))  # which it prints after its SIGTERM
    assert alive(reader)
    kill(run)
    wait_until(lambda: not alive(reader))


SCRIPT = """
from torch.utils.data import Dataset
from samseg.data.loader import Loader

class Numbers(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index + OFFSET

OFFSET = 10
print(*Loader(Numbers(), 2, batch_size=None))
"""


class Numbers(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return os.getpid()


def test_readers_end_with_their_loader():
    """At once, where the garbage collector would wait for five seconds for each, and leave them."""
    loader = Loader(Numbers(), 2, batch_size=None)
    with closing(loader):
        readers = set(loader)
        assert len(readers) == 2 and all(map(alive, readers))
        assert set(loader) == readers, "they stay for the next epoch"
    wait_until(lambda: not any(map(alive, readers)))


@linux
def test_a_script_needs_no_guard_and_its_own_classes_are_known(tmp_path, capfd):
    """With the fork server of `multiprocessing` each process would begin the script anew."""
    (tmp_path / "script.py").write_text(SCRIPT)
    runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")
    assert capfd.readouterr() == ("10 11 12 13\n", "")
