"""The machine a process runs on."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

CPU = Path("/proc/cpuinfo")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, and systems without these names
        return None


def cpu_field(name: str) -> str:
    """A field of the first core's description on Linux; empty elsewhere."""
    lines = CPU.read_text().splitlines() if CPU.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name), "")


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16, as far as Linux tells: x86 with AVX512-BF16 or AMX, Arm with BF16."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(f"{cpu_field('flags')} {cpu_field('Features')}".split()))


@cache
def cpu_has_amx() -> bool:
    """Whether the CPU multiplies bfloat16 in tiles (Intel's AMX), as far as Linux tells."""
    return "amx_bf16" in cpu_field("flags").split()


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for what comes next, in a process whose networks run on the CPU.

    Else large tensors go back to the system each time, which clears every page before it gives it out again: a quarter
    of a training step on stored features and of a class map by a Unet on `sam-vit_t`. It takes a tenth more memory and
    holds for the whole process, so only commands of ours do it. Other C libraries are left as they are.
    """
    import torch

    if not torch.accelerator.is_available() and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give the system back what is free in this process, gaps among what is used included; with glibc, else nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
