import os
import signal
import time
from pathlib import Path

import pytest

from samseg.common.errors import InputError
from samseg.runs.lock import lock_run
from tests.processes import first_line, kill, start


def hold(folder: Path) -> None:
    os.setsid()
    with lock_run(folder):
        if os.fork():  # this process is on one thread and has opened nothing
            print("held", flush=True)
        time.sleep(600)


@pytest.fixture
def holder(tmp_path_factory, tmp_path):
    """A process that holds the folder, and has forked one that outlives it, as processes that read images may."""
    place = tmp_path_factory.mktemp("holder")
    process = start(hold, tmp_path, folder=place)
    assert first_line(process, place) == "held"
    yield process
    os.killpg(process.pid, signal.SIGKILL)


def test_a_folder_in_use_says_by_whom_until_its_holder_is_killed(holder, tmp_path):
    with (
        pytest.raises(InputError, match=f"is in use by process {holder.pid} on .*name another run_dir"),
        lock_run(tmp_path),
    ):
        pass
    kill(holder)
    with lock_run(tmp_path):
        assert str(os.getpid()) in (tmp_path / "run.lock").read_text()
    assert not list(tmp_path.iterdir())


def test_it_may_be_held_again(tmp_path):
    for _ in range(2):
        with lock_run(tmp_path):
            pass
