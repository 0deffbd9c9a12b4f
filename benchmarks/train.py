"""One training step at every depth of adaptation: what it costs in parameters, time, memory and disk."""

import statistics
import tempfile
import time
from argparse import ArgumentParser, Namespace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.memory import PeakMemory
from samseg.encoders.adapters.insert import add_adapter, is_adapter_tensor
from samseg.encoders.adapters.methods import METHODS
from samseg.models.cached import TapModel
from samseg.models.smp import create_model
from samseg.models.trainable import checkpoint_gradients, freeze_encoder
from samseg.runs.config.schema import TrainConfig
from samseg.training.optimizer import optimizer_for

CLASSES, STEPS = 4, 3


def add_arguments(parser: ArgumentParser) -> None:
    default, methods = "(%(default)s)", ["frozen + cache", "frozen", *METHODS, "full"]
    parser.add_argument("--encoder", default="sam-vit_b", help=f"one of SAM's {default}")
    parser.add_argument("--arch", default="fpn", help=f"SMP's decoder {default}")
    parser.add_argument("--size", type=int, default=1024, help=f"pixels a side {default}")
    parser.add_argument("--batch", type=int, default=1, help=f"images a step {default}")
    parser.add_argument("--methods", nargs="+", default=methods, choices=methods, help="some of them (all)")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing where it does something")


def run(args: Namespace) -> None:
    options = {name: getattr(args, name) for name in ("encoder", "size", "batch", "arch", "methods", "checkpointing")}
    print(as_text(options, compare(**options)))


def compare(encoder: str, size: int, batch: int, arch: str, methods: list[str], checkpointing: bool) -> dict[str, dict]:
    """What a training step costs with each of ``methods``: "frozen", "frozen + cache", "full" or an adapter's name.

    For each: trainable parameters, images per second (median of its steps but the first), peak GiB of weights,
    activations and optimiser, and the bytes of what was trained as a checkpoint.

    A step is forward, cross entropy, backward and AdamW in float32 on random images (batch, 3, size, size), all methods
    on this machine in one run; random weights cost what trained ones do.
    """
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # or each would reuse the last one's memory
        jobs = [(method, encoder, size, batch, arch, checkpointing) for method in methods]
        found = tqdm(pool.imap(_measured, jobs), "training steps", len(jobs), leave=False)
        return dict(zip(methods, found))


def _measured(job: tuple[str, str, int, int, str, bool]) -> dict[str, float]:
    method, encoder, size, batch, arch, checkpointing = job
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    with PeakMemory(device) as memory:
        model = create_model(arch, encoder, None, classes=CLASSES).train()
        if method != "full":
            freeze_encoder(model)
        if method in METHODS:
            add_adapter(model, method)
        if checkpointing and "frozen" not in method:
            checkpoint_gradients(model)
        model = model.to(device)
        image = torch.randn(batch, 3, size, size, device=device)
        network, given = (TapModel(model, size), _stored(model, image)) if "cache" in method else (model, image)
        seconds = _step_seconds(network, given, torch.randint(CLASSES, (batch, size, size), device=device))
    return {
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "images_per_second": batch / statistics.median(seconds[1:]),  # the first allocates
        "peak_gib": memory.gib,
        "checkpoint_bytes": _checkpoint_bytes(model),
    }


def _stored(model: nn.Module, image: Tensor) -> list[Tensor]:
    """The taps as the cache gives them; zeros cost what SAM's do, and leave the encoder out of the memory's peak."""
    trunk, (batch, _, size, _) = model.encoder.trunk, image.shape
    return [
        torch.zeros(batch, size // stride, size // stride, channels, dtype=torch.float16, device=image.device)
        for channels, stride in zip(trunk.channels, trunk.strides)
    ]


def _step_seconds(network: nn.Module, given: Tensor | list[Tensor], mask: Tensor) -> list[float]:
    settings = TrainConfig(encoder_lr=1e-5, pyramid_lr=1e-4, layer_decay=1.0)
    optimizer = optimizer_for(network, settings)
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        loss = nn.functional.cross_entropy(network(given), mask)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # a GPU is waited for
        seconds.append(time.perf_counter() - start)
    return seconds


def _checkpoint_bytes(model: nn.Module) -> int:
    """The size of a checkpoint of what was trained; a frozen trunk is named, not stored."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    frozen = {name for name in frozen if not is_adapter_tensor(name)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        torch.save({name: value for name, value in model.state_dict().items() if name not in frozen}, path)
        return path.stat().st_size


def as_text(options: dict, found: dict[str, dict]) -> str:
    """What `compare` found with ``options``."""
    slowest = min(row["images_per_second"] for row in found.values())
    lines = [f"{' '.join(f'{name} {value}' for name, value in options.items())}; {torch.get_num_threads()} threads"]
    lines += ["method          trainable   images/s   faster   peak memory   checkpoint"]
    for method, row in found.items():
        memory = f"{row['peak_gib']:7.2f} GiB" if row["peak_gib"] is not None else "      -    "
        lines.append(
            f"{method:<15} {row['trainable'] / 1e6:7.2f} M   {row['images_per_second']:8.3f}   "
            f"{row['images_per_second'] / slowest:6.1f}   {memory}   {row['checkpoint_bytes'] / 1e6:7.1f} MB"
        )
    return "\n".join(lines)
