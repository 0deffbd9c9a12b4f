"""The machine a process runs on."""

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

from samseg.common.errors import InputError

CPU = Path("/proc/cpuinfo")
VARIABLE = "SAMSEG_CPU"
VENDORS = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}
LEVELS = {  # each includes those before; the flags by which Linux says so
    "none": set(),
    "avx2": {"avx2"},
    "avx512": {"avx512f", "avx512bw", "avx512vl"},
    "avx512_bf16": {"avx512_bf16"},
    "avx512_vp2intersect": {"avx512_bf16", "avx512_vp2intersect"},
    "amx": {"amx_bf16"},
}
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, and systems without these names
        return None


def megabytes(count: float) -> str:
    """A number of bytes in megabytes, or in gigabytes from one on: "1.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def cpu_field(name: str) -> str:
    """A field of the first core's description on Linux; empty elsewhere."""
    lines = CPU.read_text().splitlines() if CPU.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name), "")


def cpu_kind() -> str:
    """The kind of the CPU, vendor and instruction set, such as "amd-avx2" or "intel-amx": fast routes are chosen by it.

    Vendors are amd, intel and other, instruction sets those of `LEVELS`, as far as Linux tells. The environment
    variable SAMSEG_CPU names another kind to try its routes on purpose.

    Raises:
        InputError: SAMSEG_CPU names no kind, or instructions that the CPU lacks.
    """
    return _cpu_kind(CPU, os.environ.get(VARIABLE))


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16, as far as Linux tells: x86 with AVX512-BF16 or AMX, Arm with BF16."""
    levels = list(LEVELS)
    x86 = levels.index(cpu_kind().partition("-")[2]) >= levels.index("avx512_bf16")
    return x86 or "bf16" in cpu_field("Features").split()


@cache
def _cpu_kind(cpu: Path, asked: str | None) -> str:
    flags = set(cpu_field("flags").split())
    level = next((name for name, wanted in reversed(LEVELS.items()) if wanted <= flags), "none")
    vendor = VENDORS.get(cpu_field("vendor_id"), "other")
    if asked is None:
        return f"{vendor}-{level}"
    names = list(LEVELS)
    kinds = [f"{one}-{name}" for one in (*VENDORS.values(), "other") for name in names[: names.index(level) + 1]]
    if asked not in kinds:
        raise InputError(
            f"{VARIABLE} must be a kind of CPU whose instructions this one ({vendor}-{level}) has: {', '.join(kinds)}; "
            f"got {asked!r}"
        )
    return asked


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
