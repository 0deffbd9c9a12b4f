"""What kind of CPU this is, and what the commands do to their process for the machine's sake."""

import platform

import pytest
import torch
from PIL import Image

from samseg.cli.main import main
from samseg.common import machine
from samseg.common.errors import InputError
from tests.kinds import KINDS
from tests.processes import start
from tests.random_run import write_run


def count_faults(arguments: list[str]) -> None:
    """A tensor of 64 MB, which glibc would give back to the system, is made several times: its pages are to stay."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code
    import resource  # not on Windows

    for _ in range(4):
        torch.ones(2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    print("faults", resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc")
@pytest.mark.skipif(torch.accelerator.is_available(), reason="memory is kept where the network runs on the CPU")
def test_prediction_keeps_the_memory_that_it_frees(tmp_path):
    run = write_run(tmp_path / "run")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    arguments = ["infer", str(run), str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]
    process = start(count_faults, arguments, folder=tmp_path)
    process.join(60)
    printed = (tmp_path / "output.txt").read_text()
    assert process.exitcode == 0, printed
    assert int(printed.rsplit("faults", 1)[1]) < 1000  # of 16384 pages


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_is_what_linux_says(kind, cpu):
    cpu(kind)
    assert machine.cpu_kind() == kind
    assert machine.cpu_has_bfloat16() == (kind.endswith(("bf16", "vp2intersect", "amx")))


def test_another_kind_is_tried_on_purpose(cpu, monkeypatch):
    cpu("intel-avx512")
    monkeypatch.setenv("SAMSEG_CPU", "amd-avx2")
    assert machine.cpu_kind() == "amd-avx2"


@pytest.mark.parametrize("asked", ["amd-amx", "avx2", "intel-sse", ""])
def test_a_kind_whose_instructions_are_missing_is_refused(asked, cpu, command, monkeypatch):
    cpu("amd-avx512")
    monkeypatch.setenv("SAMSEG_CPU", asked)
    with pytest.raises(InputError, match=f"SAMSEG_CPU .*this one .amd-avx512.*intel-avx2, .*; got '{asked}'"):
        machine.cpu_kind()
    code, _, err = command("--version")
    assert code == 2 and err.startswith("error: SAMSEG_CPU")


def test_the_version_names_the_kind_and_what_pytorch_lacks(cpu, command, monkeypatch):
    cpu("amd-avx2")
    code, out, _ = command("--version")
    assert code == 0 and "routes of amd-avx2" in out and len(out.splitlines()) == 2
    monkeypatch.setattr("samseg.encoders.ops.missing_operators", lambda: ["mkldnn.one", "aten.other"])
    _, out, _ = command("--version")
    assert "this PyTorch has no mkldnn.one, aten.other: slower routes are taken instead" in out
