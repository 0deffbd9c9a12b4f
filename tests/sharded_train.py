"""samseg train with FSDP2 on CPUs: accelerate itself turns it on for GPUs and the like only."""

import sys

from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from samseg.cli.main import main
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
    main(["train", *sys.argv[1:]])
