"""Kinds of CPU that a test feigns, so that every route runs on every machine that has the instructions for it.

`python -m tests.kinds` prints those that this machine can be by SAMSEG_CPU.
"""

from pathlib import Path

import pytest
import torch

from samseg.common import machine
from samseg.common.errors import InputError

KINDS = ("other-none", "amd-avx2", "intel-avx512", "amd-avx512_bf16", "amd-avx512_vp2intersect", "intel-amx")


def feign(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Linux describe a CPU of the kind, and the test skipped where bfloat16's routes of it cannot be run."""
    vendor, _, level = kind.partition("-")
    names = list(machine.LEVELS)
    if names.index(level) >= names.index("avx512_bf16") and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip(f"oneDNN takes no bfloat16 on this CPU, a {machine.cpu_kind()}")
    flags = set().union(*(machine.LEVELS[name] for name in names[: names.index(level) + 1]))
    vendor_id = {name: id for id, name in machine.VENDORS.items()}.get(vendor, "somebody")
    cpuinfo = folder / f"cpuinfo-{kind}"  # which is read once
    cpuinfo.write_text(f"vendor_id : {vendor_id}\nmodel name : some CPU\nflags : fpu {' '.join(sorted(flags))}\n")
    monkeypatch.delenv(machine.VARIABLE, raising=False)
    monkeypatch.setattr(machine, "CPU", cpuinfo)


if __name__ == "__main__":
    for kind in KINDS:
        try:
            print(machine._cpu_kind(machine.CPU, kind))
        except InputError:  # it lacks the instructions
            continue
