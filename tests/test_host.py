"""Nothing happens to the host: a program that uses the package finds its own settings as it left them.

SMP's registry and its preprocessing helper are the exceptions; `samseg.encoders` says so where it touches them.
"""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
HOST = """
import ctypes, os, platform, signal, sys, warnings
from pathlib import Path

import accelerate, cv2, matplotlib, numpy as np, PIL.Image, tensorboard, torch, torchmetrics, tqdm
import segmentation_models_pytorch as smp
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.utils.tensorboard import SummaryWriter

with warnings.catch_warnings():  # albumentations itself changes the filters when it is imported
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations
    del os.environ["NO_ALBUMENTATIONS_UPDATE"]


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", *"abcdef")]


def large_blocks_are_mapped():
    "What mallopt(M_MMAP_MAX, 0) ends; glibc does not tell its settings."
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes, libc.mallinfo2.restype = [ctypes.c_void_p], Mallinfo
    before = libc.mallinfo2().hblks
    block = libc.malloc(2**28)
    found = libc.mallinfo2().hblks - before
    libc.free(block)
    return found


def settings():
    return {
        "PIL's limit": PIL.Image.MAX_IMAGE_PIXELS,
        "OpenCV's threads": cv2.getNumThreads(),
        "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's defaults": (torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.is_grad_enabled()),
        "torch's determinism": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "accelerate": [str(kind._shared_state) for kind in (AcceleratorState, GradientState, PartialState)],
        "malloc": large_blocks_are_mapped(),
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)],
        "matplotlib": matplotlib.get_backend(),
        "numpy": np.geterr(),
        "hooks": (sys.excepthook, sys.path[:]),
    }


def same(step):
    for name, value in settings().items():
        if value != before[name]:
            raise SystemExit(f"{step} changed {name}: {before[name]} -> {value}")


for host in ("plain", "accelerated"):
    mine = accelerate.Accelerator(mixed_precision="bf16", cpu=True) if host == "accelerated" else None
    before = settings()
    import samseg
    same("import samseg")
    import tests.encoders.conftest
    model = samseg.create_model("fpn", "sam-vit_small", None, classes=2)
    same("create_model")
    samseg.add_adapter(model, "lora")
    same("add_adapter")
    from samseg.runs.config.load import load_config
    config = load_config(sys.argv[1], [f"run_dir={host}", "train.epochs=1", "train.workers=1"])
    same("load_config")
    from samseg.training.run import train
    folder = train(config, "host")
    same("train")
    samseg.load_run(folder)
    same("load_run")
    predictor = samseg.Predictor.from_run(folder)
    predictor(next((Path(config.data.root) / "test" / "images").iterdir()))
    same("Predictor")
    assert mine is None or mine.mixed_precision == "bf16"
"""


def test_the_api_leaves_the_host_as_it_was(tiny_config, tmp_path):
    """Also a host that has made an Accelerator of its own finds it as it was, at its own precision."""
    script = tmp_path / "host.py"
    script.write_text(HOST)
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    environment |= {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, script, tiny_config]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
