"""SAM's image encoder beside other libraries' implementations: same weights, same machine, turn by turn."""

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
from itertools import product
from json import dumps

import torch
from torch import Tensor, nn

from benchmarks.memory import PeakMemory
from benchmarks.peers import PEERS
from benchmarks.table import gflop
from samseg.encoders.registry import VARIANTS
from samseg.encoders.vit import SamViT
from samseg.errors import InputError

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}


def add_arguments(parser: ArgumentParser) -> None:
    vits = [name for name, row in VARIANTS.items() if row.trunk is SamViT]
    peers = list(PEERS)
    parser.add_argument("--variant", default="sam-vit_b", choices=vits)
    parser.add_argument("--size", type=int, nargs="+", default=[1024], help="pixels a side (1024)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images at a time (1)")
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--peers", nargs="*", default=peers[:2], choices=peers, help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> None:
    """`compare` at each size, batch and dtype, printed as it is found."""
    for kind, side, images in product(args.dtype, args.size, args.batch):
        found = compare(args.variant, images, side, kind, args.train, args.peers, args.repeats)
        print(dumps(found) if args.json else as_table(found), flush=True)


def compare(variant: str, batch: int, size: int, kind: str, train: bool, peers: list[str], repeats: int) -> dict:
    """Time ours and the peers in turn on images (batch, 3, size, size), after checking that all outputs agree.

    ``kind`` is "float32" or "bfloat16". Returns what was asked, the GEMM rate of the machine and, for each
    implementation, the median seconds, the ratio to ours, the rate over the GEMM's, the peak of memory above what the
    weights take, and the relative error against float32.

    Raises InputError when an output disagrees: a time for other numbers is no comparison.
    """
    arguments = VARIANTS[variant].arguments
    if VARIANTS[variant].trunk is not SamViT:
        raise InputError(f"{variant} has no peers to compare with; take sam-vit_b, sam-vit_l or sam-vit_h")
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, kind)
    torch.manual_seed(0)
    ours = SamViT(**arguments).eval()
    randomise(ours)
    image = torch.randn(batch, 3, size, size)
    with torch.inference_mode():
        exact = ours.to(device)(image.to(device))[-1].float()
    builders = {"samseg": lambda: ours, **{peer: partial(PEERS[peer], arguments, size, ours) for peer in peers}}
    networks: dict[str, nn.Module] = {}
    missing = {}
    for name, build in builders.items():
        try:
            networks[name] = build().eval().to(device, dtype)
        except (ImportError, InputError) as error:
            missing[name] = str(error)
    image = image.to(device, dtype)
    results: dict[str, dict] = {name: {"seconds": []} for name in networks}
    for name, network in networks.items():
        with torch.inference_mode():
            error = ((_embedding(network(image)).float() - exact).norm() / exact.norm()).item()
        if error > TOLERANCE[dtype]:
            raise InputError(f"{name} disagrees with the float32 reference by {error:.1e}; nothing was timed")
        results[name]["error"] = error
        with PeakMemory(device) as memory:
            _run(network, image, train)
        results[name]["peak_gib"] = memory.gib
    for _ in range(repeats):
        for name, network in networks.items():
            results[name]["seconds"].append(timed(lambda network=network: _run(network, image, train)))
    peak = gemm_gflops(dtype, device)
    flops = gflop(variant, size) * batch * (3 if train else 1)  # backward: twice the forward
    base = statistics.median(results["samseg"]["seconds"])
    for result in results.values():
        result["seconds"] = statistics.median(result["seconds"])
        result["ratio"] = result["seconds"] / base
        result["of_gemm"] = flops / result["seconds"] / peak
    asked = {"variant": variant, "shape": [batch, 3, size, size], "dtype": kind, "train": train, "device": device}
    return asked | {"gemm_gflops": peak, "implementations": results, "missing": missing}


def as_table(found: dict) -> str:
    """What `compare` found, a line for each implementation."""
    lines = [
        f"{found['variant']}, {' x '.join(map(str, found['shape']))}, {found['dtype']}, "
        f"{'training' if found['train'] else 'inference'} on {found['device']} with {torch.get_num_threads()} threads; "
        f"matrix products at {found['gemm_gflops']:.0f} GFLOP/s"
    ]
    for name, row in found["implementations"].items():
        memory = f"  {row['peak_gib']:5.2f} GiB" if row["peak_gib"] is not None else ""
        lines.append(
            f"{name:<17} {row['seconds']:7.2f} s  x {row['ratio']:4.2f}  {row['of_gemm']:4.0%} of that rate{memory}  "
            f"error {row['error']:.1e}"
        )
    return "\n".join(lines + [f"{name:<17} left out: {reason}" for name, reason in found["missing"].items()])


def gemm_gflops(dtype: torch.dtype, device: str) -> float:
    """The best rate of a matrix product of the shape that fills SAM's MLPs, in GFLOP/s."""
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((4096, 3072), (3072, 768)))
    best = min(timed(lambda: torch.mm(a, b)) for _ in range(20))
    return 2 * 4096 * 3072 * 768 / best / 1e9


def _run(network: nn.Module, image: Tensor, train: bool) -> None:
    if not train:
        with torch.inference_mode():
            network(image)
        return
    _embedding(network(image)).float().square().mean().backward()
    network.zero_grad()


def timed(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _embedding(output) -> Tensor:
    """The neck's output (B, 256, h, w) of whichever implementation."""
    if isinstance(output, list):
        return output[-1]
    return output if isinstance(output, Tensor) else output.last_hidden_state


def randomise(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if "rel_pos" in name or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
