"""The machine of a run, and the memory that the run took."""

import platform
import sys

import torch
from accelerate import Accelerator

from samseg._version import __version__

try:
    import resource
except ImportError:  # Windows does not tell
    resource = None


def machine(accelerator: Accelerator) -> dict[str, str]:
    """Device, processes and versions, for people."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device} ({name}), {accelerator.num_processes} process(es)",
        "versions": f"samseg {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has taken so far: the GPU's, or the machine's."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB of the GPU"
    if resource is None:
        return "not known"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.2f} GB"
