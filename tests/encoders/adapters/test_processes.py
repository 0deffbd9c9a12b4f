"""Adapters in plain DDP, on two real processes."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from samseg.encoders.adapters.auxiliary import auxiliary_losses
from samseg.encoders.adapters.insert import METHODS, adapter_parameters
from tests.encoders.adapters.conftest import picture, small_model
from tests.processes import ranks


def learn(method: str) -> None:
    """In a function: where DDP outlives the group of processes, some of them are aborted at their exit."""
    model = small_model(method, moved=True).train()
    model.encoder.trunk.gradient_checkpointing = True
    ddp = DistributedDataParallel(model)
    before = [parameter.detach().clone() for parameter in adapter_parameters(model)]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    torch.manual_seed(dist.get_rank())
    for _ in range(2):
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


def learn_all(file: str) -> None:
    dist.init_process_group("gloo")
    for method in METHODS:
        learn(method)
        Path(f"{file}{dist.get_rank()}").write_text(method)
    dist.destroy_process_group()


def test_two_processes_agree(tmp_path):
    """Although each has its own images and noise, and experts that the other has not chosen."""
    ranks(learn_all, "learnt", folder=tmp_path)
    assert all((tmp_path / f"learnt{rank}").read_text() == list(METHODS)[-1] for rank in (0, 1))
