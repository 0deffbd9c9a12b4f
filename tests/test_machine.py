"""What the commands do to their process for the machine's sake."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.random_run import write_run

# A tensor of 64 MB, which glibc would give back to the system, is made several times: in the end its pages are there.
FAULTS = """
import resource, sys
from samseg.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
import torch
for _ in range(4):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print("faults", resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc's malloc")
@pytest.mark.skipif(torch.accelerator.is_available(), reason="memory is kept where the network runs on the CPU")
def test_prediction_keeps_the_memory_that_it_frees(tmp_path):
    run = write_run(tmp_path / "run")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    command = [sys.executable, "-c", FAULTS, "infer", run, tmp_path / "photo.png", "--out", tmp_path / "out"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.rsplit("faults", 1)[1]) < 1000  # of 16384 pages
