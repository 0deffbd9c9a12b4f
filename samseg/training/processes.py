"""The processes that train together, as `accelerate launch` or torchrun started them."""

import ctypes
import os
import platform
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast, broadcast_object_list
from torch import nn
from torch.distributed.fsdp import FSDPModule

from samseg.common.errors import ConfigError, InputError
from samseg.common.machine import keep_freed_memory
from samseg.data.workers import single_threaded
from samseg.runs.config.schema import TrainConfig

T = TypeVar("T")
PR_SET_PDEATHSIG = 1  # Linux' sys/prctl.h


def prepare_process() -> None:
    """Set this process up for training alone; called when a command of ours starts.

    It holds for the whole process, so `train` leaves it alone. OpenCV starts no threads, for the workers
    are the parallelism. What a step frees is kept for the next one. A process that torchrun or accelerate started is
    sent SIGTERM, and so saves and ends, when its launcher is killed: nobody else would ever tell it to, and it would
    keep the run's lock. Where that has happened already this is an InputError: it would wait half an hour for the
    others.
    """
    single_threaded()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if platform.system() == "Linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        _check_launcher()
    keep_freed_memory()


def _check_launcher() -> None:
    """InputError where the launcher, at whose port the processes meet, is gone."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        socket.create_connection((address, port), timeout=60).close()
    except OSError as error:
        raise InputError(
            f"the launcher of this process is gone from {address}:{port}: {error.strerror or error}"
        ) from None


def processes() -> PartialState:
    """The processes of this run. Without a GPU accelerate must be told so, or each of several would train alone."""
    return PartialState(cpu=not torch.accelerator.is_available())


@contextmanager
def own_accelerator() -> Iterator[None]:
    """Give the run its own Accelerate state; restore the host's afterwards.

    An accelerator of the host would else hold the run to its precision, and the run's the host.
    """
    kinds = [AcceleratorState, GradientState]
    if not PartialState._shared_state:  # the processes themselves are the same for all
        kinds.append(PartialState)
    before = [kind._shared_state for kind in kinds]
    for kind in kinds:
        kind._shared_state = {}
    try:
        yield
    finally:
        for kind, state in zip(kinds, before):
            kind._shared_state = state


def accelerator_for(settings: TrainConfig) -> Accelerator:
    """Device, processes and precision of a run; ConfigError for a precision that the device does not have."""
    processes()
    try:
        accelerator = Accelerator(mixed_precision="no" if settings.precision == "fp32" else settings.precision)
    except ValueError as error:
        raise ConfigError(f"train.precision={settings.precision} is not possible here: {error}") from error
    if settings.precision == "fp16" and accelerator.scaler is None:  # accelerate would train in fp32 and not say so
        raise ConfigError(f"train.precision=fp16 needs a GPU, this is the {accelerator.device}; set it to bf16 or fp32")
    return accelerator


def too_few(accelerator: Accelerator) -> str | None:
    """A warning where the launcher was asked for more processes than train together; None else."""
    ours, asked = accelerator.num_processes, int(os.environ.get("WORLD_SIZE", 1))
    # accelerate launch --cpu leaves only this behind when it starts one process for several.
    forgotten = "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ
    if ours >= asked and not (ours == 1 and forgotten):
        return None
    many = str(asked) if asked > 1 else "several"
    return (
        f"WARNING: the launcher was asked for {many} processes, but {ours} trains here: on a CPU start them with "
        "torchrun --nproc-per-node=N"
    )


def on_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Call ``work`` on the main process and return its result, which must be picklable, on all of them.

    Its InputError is raised on the main process, to be told once; the others exit with the code of bad input.
    """
    if accelerator.num_processes == 1:
        return work()
    result, error = None, None
    if accelerator.is_main_process:
        try:
            result = work()
        except InputError as raised:
            error = raised
    result, failed = broadcast_object_list([result, error is not None])
    if error is not None:
        raise error
    if failed:
        raise SystemExit(2)
    return result


def any_process(accelerator: Accelerator, *wishes: bool) -> list[bool]:
    """Tell for each wish whether any process has it, so that all go the same way."""
    if accelerator.num_processes == 1:
        return list(wishes)
    counts = accelerator.reduce(torch.tensor(wishes, dtype=torch.int32, device=accelerator.device), "sum")
    return counts.bool().tolist()


def largest_of_processes(accelerator: Accelerator, value: float) -> float:
    """The largest of the processes' values, on all of them."""
    if accelerator.num_processes == 1:
        return value
    return accelerator.gather(torch.tensor([value], dtype=torch.float64, device=accelerator.device)).max().item()


@contextmanager
def whole_on_each(accelerator: Accelerator, model: nn.Module) -> Iterator[nn.Module]:
    """Yield the same network on every process, to be called there any number of times.

    Running statistics are those of the main process, which are the ones that are saved. Sharded parameters (FSDP) are
    gathered for the block, because gathering them at each call would want all processes to call equally often.
    """
    network = accelerator.unwrap_model(model)
    if accelerator.num_processes > 1:
        for buffer in network.buffers():
            broadcast(buffer)
    shards = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for shard in shards:
        shard.set_reshard_after_forward(False, recurse=False)
        shard.unshard()
    try:
        yield network
    finally:
        for shard in shards:
            shard.reshard()
        for shard in shards[1:]:  # the root never does: its backward pass follows at once
            shard.set_reshard_after_forward(accelerator.state.fsdp_plugin.reshard_after_forward, recurse=False)
