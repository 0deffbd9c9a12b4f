"""Training with FSDP2 on CPUs: accelerate itself turns it on for GPUs and the like only."""

from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from samseg.cli.main import main
from samseg.training import prepare as training

accelerator_for = training.accelerator_for


def sharded(settings):
    accelerator = accelerator_for(settings)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="size_based_wrap", min_num_params=50_000
    )
    accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def sharded_main(arguments: list[str]) -> None:
    """`samseg.cli.main.main` with FSDP2."""
    training.accelerator_for = sharded
    main(arguments)
