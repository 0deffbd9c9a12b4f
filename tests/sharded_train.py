"""tools/train.py with FSDP2 on CPUs: accelerate itself turns it on for GPUs and the like only."""

import runpy
from pathlib import Path

from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from samseg.cli.exit_codes import run
from samseg.training import run as training

accelerator_for = training.accelerator_for


def sharded(settings):
    accelerator = accelerator_for(settings)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="size_based_wrap", min_num_params=50_000
    )
    accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


if __name__ == "__main__":
    training.accelerator_for = sharded
    run(runpy.run_path(str(Path(__file__).parents[1] / "tools" / "train.py"))["main"])
