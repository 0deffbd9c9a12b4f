"""Faults to be made on purpose: flipped bits, disks of a few KiB or without the right to write."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CAN_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    """``data`` with one bit of the byte at ``place`` turned over."""
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@contextlib.contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A disk of ``kib`` KiB mounted at ``folder`` for the block; the test is skipped where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)]
    if not CAN_MOUNT or subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(disk: Path) -> None:
    """From here on nothing can be written on a `small_disk`."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
