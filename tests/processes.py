"""Real processes that start at once: forked from one that has imported everything, on one thread and no GPU."""

import atexit
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

REPOSITORY = Path(__file__).parents[1]
# One thread, so that sums are added up in one order; no GPU, so that nothing is drawn at random.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
IMPORTED = ["samseg.cli.main", "samseg.cli.train", "samseg.training.run", "samseg.data.augment", "tests.conftest"]
IMPORTED += ["matplotlib.figure", "torchmetrics.classification", "torch.utils.tensorboard"]


def start(function, *arguments, folder: Path, output: str = "output.txt", **environment: str) -> BaseProcess:
    """A process that calls ``function`` in ``folder``, where what it prints goes into the file ``output``."""
    given = (function, arguments, environment, folder, output)
    process = forked().Process(target=_call, args=given)
    process.start()
    atexit.register(_end, process)
    return process


def wait_until(happened: Callable[[], object], process: BaseProcess | None = None) -> None:
    """Wait for something, which a ``process`` is to do if one is given; AssertionError after a minute or its end."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        assert process is None or process.is_alive() or happened(), f"the process ended with code {process.exitcode}"
        time.sleep(0.005)


def first_line(process: BaseProcess, folder: Path) -> str:
    """What a process that was started in ``folder`` prints first, once it has."""
    output = folder / "output.txt"
    wait_until(lambda: output.exists() and "\n" in output.read_text(), process)
    return output.read_text().partition("\n")[0]


def kill(process: BaseProcess) -> None:
    """Kill a process, which must be alive, and wait for its end."""
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"


@contextmanager
def meeting() -> Iterator[dict[str, str]]:
    """Where two processes meet for the block, as torchrun tells them in their environment."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # the system names the port
    yield {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip
    del store


def launch_two(function, *arguments) -> None:
    """A launcher of two processes, which are its children; it waits for them and says how they ended.

    To be called by `start` within a `meeting`: it forks, and that process is on one thread.
    """
    both = []
    for rank in "01":
        os.environ.update(RANK=rank, LOCAL_RANK=rank, TORCHELASTIC_RUN_ID="tests")
        both.append(get_context("fork").Process(target=function, args=arguments))
        both[-1].start()
    for process in both:
        process.join(100)
    print("ended with", *(process.exitcode for process in both))


def ranks(function, *arguments, folder: Path, code: int = 0) -> list[str]:
    """What each of two processes printed that called ``function`` as torchrun would have them; both must end so."""
    with meeting() as both, ExitStack() as stack:
        started = [
            start(function, *arguments, folder=folder, output=f"rank{rank}.txt", RANK=rank, LOCAL_RANK=rank, **both)
            for rank in "01"
        ]
        for process in started:
            stack.callback(process.kill)
        for process in started:
            process.join(100)
    printed = [(folder / f"rank{rank}.txt").read_text() for rank in "01"]
    assert [process.exitcode for process in started] == [code, code], "\n".join(printed)
    return printed


@cache
def forked() -> BaseContext:
    """The way of `multiprocessing` to start such processes; the test is skipped where there is none."""
    if os.name == "nt":
        pytest.skip("Windows forks no processes")
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return context


def _end(process: BaseProcess) -> None:
    """Python waits for its processes at its end: also for one that a failed test has left."""
    if process.is_alive():
        process.kill()


def _call(function, arguments: tuple, environment: dict[str, str], folder: Path, output: str) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    with open(output, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    torch.set_num_threads(1)
    function(*arguments)
