"""SAM's image encoder beside other libraries' implementations: same weights, same machine, turn by turn."""

import statistics
from argparse import ArgumentParser, Namespace
from itertools import product
from json import dumps
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from benchmarks.memory import PeakMemory
from benchmarks.peers import PEERS, RUNTIMES, peers_of, with_lora
from benchmarks.table import gflop
from benchmarks.timed import timed
from samseg.common.errors import InputError
from samseg.encoders.ops.cpu.products import linear_by_convolution
from samseg.encoders.registry import ROWS
from samseg.encoders.vit import SamViT

USUAL = ("segment-anything", "timm", "MobileSAM", "sam2")  # the authors' own code and what SMP's users have
TOKENS = 4096  # of an image of 1024 pixels
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--variant", default="sam-vit_b", choices=list(ROWS))
    parser.add_argument("--size", type=int, nargs="+", default=[1024], help="pixels a side (1024)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images at a time (1)")
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--lora", action="store_true", help="LoRA in all blocks, and all else frozen")
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, help=f"those of {', '.join(USUAL)} that have it, else transformers"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> None:
    """`compare` at each size, batch and dtype, printed as it is found."""
    there = peers_of(ROWS[args.variant].trunk)
    usual = [name for name in USUAL if name in there] or ["transformers"]  # SAM 3's own code wants a GPU
    peers = usual if args.peers is None else args.peers
    for kind, side, images in product(args.dtype, args.size, args.batch):
        found = compare(args.variant, images, side, kind, args.train, peers, args.repeats, args.lora)
        print(dumps(found) if args.json else as_table(found), flush=True)


def compare(
    variant: str, batch: int, size: int, kind: str, train: bool, peers: list[str], repeats: int, lora: bool = False
) -> dict:
    """Time ours and the peers in turn on images (batch, 3, size, size), after checking that all outputs agree.

    ``kind`` is "float32" or "bfloat16". Returns what was asked, the limit of the machine (`gemm_gflops`) and, for each
    implementation, the median seconds and their spread (least, most), the ratio to ours, the rate over the limit, the
    peak of memory above what the weights take, and the relative error against float32. Memory is measured first, each
    in a process of its own.

    Raises InputError when an output disagrees: a time for other numbers is no comparison.
    """
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, kind)
    ours, image = _ours(variant), torch.randn(batch, 3, size, size)
    with torch.inference_mode():
        exact = ours.to(device)(image.to(device))[-1].float()
    ours.to("cpu")
    networks: dict[str, nn.Module] = {}
    missing = {}
    for name in ["samseg", *peers]:
        try:
            networks[name] = _network(name, variant, size, dtype, train, lora, device)
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
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # or each would reuse the last one's memory
        jobs = [(name, variant, batch, size, dtype, train, lora) for name in networks]
        for name, gib in zip(networks, pool.imap(_peak_gib, jobs)):
            results[name]["peak_gib"] = gib
    for repeat in range(repeats + 1):
        for name, network in networks.items():
            seconds = timed(lambda network=network: _run(network, image, train))
            if repeat > 0:  # the first allocates
                results[name]["seconds"].append(seconds)
    peak = gemm_gflops(dtype, device)
    flops = gflop(variant, size) * batch * ((2 if lora else 3) if train else 1)  # backward: as much for each gradient
    base = statistics.median(results["samseg"]["seconds"])
    for result in results.values():
        result["spread"] = [min(result["seconds"]), max(result["seconds"])]
        result["seconds"] = statistics.median(result["seconds"])
        result["ratio"] = result["seconds"] / base
        result["of_gemm"] = flops / result["seconds"] / peak
    asked = {"variant": variant, "shape": [batch, 3, size, size], "dtype": kind, "train": train, "lora": lora}
    return asked | {"device": device, "gemm_gflops": peak, "implementations": results, "missing": missing}


def _ours(variant: str) -> nn.Module:
    torch.manual_seed(0)
    row = ROWS[variant]
    if row.trunk is SamViT:
        with torch.device("meta"):  # its own initialisation takes longer than a run
            ours = row.build()
        ours = ours.to_empty(device="cpu")
        for name, parameter in ours.named_parameters():
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            nn.init.normal_(parameter, 1.0 if is_scale else 0.0, 0.02)
    else:
        ours = row.build()
    randomise(ours)
    return ours.eval()


def _network(name: str, variant: str, size: int, dtype: torch.dtype, train: bool, lora: bool, device: str) -> nn.Module:
    """An implementation by name, of the same numbers as all others."""
    if name in RUNTIMES and (train or lora):
        raise InputError(f"{name} is for inference alone")
    row, network = ROWS[variant], _ours(variant)
    if name != "samseg":
        there = peers_of(row.trunk)
        if name not in there:
            raise InputError(f"it has no {variant}")
        network = there[name](row.arguments, size, network, dtype)
    # MobileSAM's code keeps its biases as `eval` finds them.
    return (with_lora(network) if lora else network).to(device, dtype).eval()


def _peak_gib(job: tuple[str, str, int, int, torch.dtype, bool, bool]) -> float | None:
    """The peak of the second run: the first loads and compiles what is kept."""
    name, variant, batch, size, dtype, train, lora = job
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = _network(name, variant, size, dtype, train, lora, device)
    image = torch.randn(batch, 3, size, size, device=device, dtype=dtype)
    _run(network, image, train)
    with PeakMemory(device) as memory:
        _run(network, image, train)
    return memory.gib


def as_table(found: dict) -> str:
    """What `compare` found, a line for each implementation."""
    what = ("training" if found["train"] else "inference") + (" with LoRA" if found["lora"] else "")
    lines = [
        f"{found['variant']}, {' x '.join(map(str, found['shape']))}, {found['dtype']}, {what} on {found['device']} "
        f"with {torch.get_num_threads()} threads; "
        f"matrix products at {found['gemm_gflops']:.0f} GFLOP/s"
    ]
    for name, row in found["implementations"].items():
        memory = f"  {row['peak_gib']:5.2f} GiB" if row["peak_gib"] is not None else ""
        lines.append(
            f"{name:<17} {row['seconds']:7.2f} s ({row['spread'][0]:.2f} to {row['spread'][1]:.2f})  "
            f"x {row['ratio']:4.2f}  {row['of_gemm']:4.0%} of that rate{memory}  error {row['error']:.1e}"
        )
    return "\n".join(lines + [f"{name:<17} left out: {reason}" for name, reason in found["missing"].items()])


def gemm_gflops(dtype: torch.dtype, device: str) -> float:
    """The best rate of a matrix product by any public route, in GFLOP/s, of the shapes that fill SAM's MLPs.

    On a CPU the routes are `torch.mm` and a 1x1 convolution, which use different libraries.
    """
    rates = []
    for inner, outer in ((3072, 768), (768, 3072)):
        a, b = torch.randn(TOKENS, inner).to(device, dtype), torch.randn(outer, inner).to(device, dtype)
        routes = [lambda a=a, b=b: torch.mm(a, b.t()), lambda a=a, b=b: linear_by_convolution(a, b)]
        for route in routes if device == "cpu" else routes[:1]:
            with torch.inference_mode():
                rates.append(2 * TOKENS * inner * outer / min(timed(route) for _ in range(5)) / 1e9)
    return max(rates)


def _run(network: nn.Module, image: Tensor, train: bool) -> None:
    if not train:
        with torch.inference_mode():
            network(image)
        return
    _embedding(network(image)).float().square().mean().backward()
    network.zero_grad()


def _embedding(output) -> Tensor:
    """The neck's output (B, 256, h, w) of whichever implementation."""
    if isinstance(output, list):
        return output[-1]
    return output if isinstance(output, Tensor) else output.last_hidden_state


def randomise(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if "rel_pos" in name or "gamma" in name or name.endswith("bias"):  # scales of 1e-5 would hide all but the skips
            nn.init.normal_(parameter, std=0.1)
