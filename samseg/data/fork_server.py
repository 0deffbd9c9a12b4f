"""Processes forked from a server, which is on one thread and has nothing open. Not on Windows.

Forked from a process that has threads, or has opened GDAL or PROJ, they would inherit locks that nobody opens again,
and hang at them. The fork server of `multiprocessing` imports the main module anew in each process: a script would have
to keep its work behind ``if __name__ == "__main__"``, and classes of a notebook would be missing. Here the main module
is left alone, and what it defines is sent along (cloudpickle).
"""

import io
import os
import signal
from collections import ChainMap
from multiprocessing import popen_forkserver, resource_tracker, spawn, util
from multiprocessing.context import ForkServerContext, ForkServerProcess, set_spawning_popen
from multiprocessing.forkserver import ForkServer, read_signed
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler

import cloudpickle

IMPORTED = ["samseg.data.augment", "samseg.data.dataset", "torch.utils.data"]  # by the server, once for all


class Server(ForkServer):
    """A server of our own, so that the program's is as the program wants it."""

    def ensure_running(self) -> None:
        """Start it unless it runs; it imports `IMPORTED` by itself, in some seconds.

        SIGTERM is blocked in it and in all that it starts: one that is sent to a whole group of processes ends none.
        """
        resource_tracker.ensure_running()  # when it starts, it lifts the block
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            super().ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


SERVER = Server()
SERVER.set_forkserver_preload(IMPORTED)


class _Pickler(cloudpickle.Pickler):
    dispatch_table = ChainMap(cloudpickle.Pickler.dispatch_table, ForkingPickler._extra_reducers)


class _Popen(popen_forkserver.Popen):
    def _launch(self, process: BaseProcess) -> None:
        """As the base class does, but for the main module, the pickler and the server."""
        about = spawn.get_preparation_data(process.name)
        content = io.BytesIO()
        set_spawning_popen(self)
        try:
            ForkingPickler(content).dump({key: about[key] for key in about if not key.startswith("init_main")})
            _Pickler(content).dump(process)
        finally:
            set_spawning_popen(None)
        self.sentinel, pipe = SERVER.connect_to_new_process(self._fds)
        self.finalizer = util.Finalize(self, util.close_fds, (os.dup(pipe), self.sentinel))  # the child sees the first
        with open(pipe, "wb") as file:
            file.write(content.getbuffer())
        self.pid = read_signed(self.sentinel)


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process: BaseProcess) -> _Popen:
        return _Popen(process)


class Context(ForkServerContext):
    """A way of `multiprocessing` to start processes, for torch's DataLoader."""

    Process = _Process
