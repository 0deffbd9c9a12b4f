"""The most memory that a piece of code takes."""

from pathlib import Path

import torch

from samseg.common.machine import return_freed_memory

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Peak above what was held on entry, in GiB: of the allocator on a GPU, of the process on Linux, else None.

    What the process has freed but kept goes back to the system first, or it would hide what is taken from it.
    """

    def __init__(self, device: str):
        self.cuda = device == "cuda"
        self.gib: float | None = None

    def __enter__(self) -> "PeakMemory":
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        elif RESET.exists():
            return_freed_memory()
            RESET.write_text("5")  # the kernel's high-water mark starts again from here
            self.before = _status("VmRSS")
        return self

    def __exit__(self, *exception) -> None:
        if self.cuda:
            self.gib = (torch.cuda.max_memory_allocated() - self.before) / 2**30
        elif RESET.exists():
            self.gib = (_status("VmHWM") - self.before) / 2**30


def _status(field: str) -> int:
    """A figure of this process in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
