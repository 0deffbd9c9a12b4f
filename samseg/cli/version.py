"""What this installation is and what it runs on: the first thing that a report of a problem should say."""

import platform
from importlib.metadata import distributions
from importlib.metadata import version as of_package

from samseg._version import __version__
from samseg.common.machine import cpu_field, cpu_has_bfloat16, cpu_kind

PACKAGES = ("torch", "segmentation-models-pytorch", "timm")


def version() -> str:
    """The versions; the device that would be used, with the CPU's instruction set as torch uses it; what is wrong.

    One line each, the last ones only where there is something to say.
    """
    import torch

    from samseg.encoders.ops import missing_operators

    packages = ", ".join(f"{name} {of_package(name)}" for name in PACKAGES)
    bf16 = " with bfloat16" if cpu_has_bfloat16() else ""
    cpu = f"{cpu_field('model name') or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}{bf16}"
    cpu += f", {torch.get_num_threads()} threads, routes of {cpu_kind()}"
    gpu = ""
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        gpu = f"cuda: {torch.cuda.get_device_name()}, compute capability {major}.{minor}; "
    elif torch.backends.mps.is_available():
        gpu = "mps; "
    lines = [f"samseg {__version__}, Python {platform.python_version()}, {packages}", f"{gpu}cpu: {cpu}"]
    if missing := missing_operators():
        lines.append(f"this PyTorch has no {', '.join(missing)}: slower routes are taken instead")
    return "\n".join(lines) + _intruder()


def _intruder() -> str:
    """What to do where FreeSurfer's distribution `samseg` lies over this one, `samseg-smp`; "" where it does not."""
    for other in distributions(name="samseg"):
        if "samseg/__init__.py" in (other.read_text("RECORD") or ""):
            return (
                f"\nthe distribution samseg {other.version} has written into the same package (it is "
                "FreeSurfer's, this is samseg-smp): pip uninstall samseg samseg-smp, then install samseg-smp again"
            )
    return ""
