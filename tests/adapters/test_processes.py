"""Adapters in plain DDP, on two real processes."""

import os
import subprocess
import sys
from pathlib import Path

from samseg.adapters.methods import METHODS

REPOSITORY = Path(__file__).parents[2]

WORKER = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from samseg.adapters.auxiliary import auxiliary_losses
from samseg.adapters.insert import METHODS, adapter_parameters
from tests.adapters.conftest import picture, small_model


def learn(method):
    "In a function: where DDP outlives the group of processes, some of them are aborted at their exit."
    model = small_model(method, moved=True).train()
    model.encoder.trunk.gradient_checkpointing = True
    ddp = DistributedDataParallel(model)
    before = [parameter.detach().clone() for parameter in adapter_parameters(model)]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    torch.manual_seed(dist.get_rank())
    for step in range(2):
        image = picture(batch=1) * (dist.get_rank() + 1)
        with auxiliary_losses() as auxiliary:
            logits = ddp(image)
        (logits.square().mean() + sum(auxiliary)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for parameter, start in zip(adapter_parameters(model), before):
        both = [torch.empty_like(parameter) for _ in range(2)]
        dist.all_gather(both, parameter.detach())
        assert torch.equal(*both) and not torch.equal(parameter, start)


dist.init_process_group("gloo")
for method in METHODS:
    learn(method)
    with Path(sys.argv[1], str(dist.get_rank())).open("a") as own:  # both would print into one line at times
        print(method, file=own)
dist.destroy_process_group()
"""


def test_two_processes_agree(tmp_path):
    """Although each has its own images and noise, and experts that the other has not chosen."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    launch += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", worker, tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    environment["PYTHONFAULTHANDLER"] = "1"  # a process that is aborted says where
    done = subprocess.run(launch, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for rank in ("0", "1"):
        assert (tmp_path / rank).read_text().split() == list(METHODS)
