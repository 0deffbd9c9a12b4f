"""Routes of products and attention on this CPU: what the table of kinds of CPUs is filled from."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from benchmarks.timed import timed
from samseg.common.machine import cpu_has_bfloat16, cpu_kind
from samseg.encoders.ops.cpu import products
from samseg.encoders.ops.cpu.chunked import chunked_attention
from samseg.encoders.ops.cpu.kinds import Kernels
from samseg.encoders.ops.dispatch import kernels_of

SHAPES = ((1024, 768, 3072), (4096, 768, 3072), (4096, 3072, 768))  # tokens, channels in, channels out
SIDE, WIDTH = 64, 64  # of the map that attention is over, in tokens; of a head
SECONDS = 0.5  # for a figure


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: Namespace) -> None:
    """Print GFLOP/s by each route, in both types, and of attention by chunks of each size."""
    types = [torch.float32] + ([torch.bfloat16] if cpu_has_bfloat16() else [])
    rows = [row for dtype in types for rows in (_products(dtype), _attention(dtype)) for row in rows]
    if args.json:
        print(json.dumps({"kind": cpu_kind(), "threads": torch.get_num_threads(), "rows": rows}))
        return
    print(f"{cpu_kind()}, {torch.get_num_threads()} threads, GFLOP/s by each route; * is taken")
    for row in rows:
        rates = "  ".join(f"{name} {rate:.0f}{'*' * (name == row['taken'])}" for name, rate in row["gflops"].items())
        print(f"{row['dtype']:<9} {row['what']:<36} {rates}")


def _products(dtype: torch.dtype) -> Iterator[dict]:
    kernels = kernels_of(dtype)
    forward = {"linear": products.linear_by_mm, "convolution": products.linear_by_convolution}
    if dtype == torch.bfloat16:
        forward["oneDNN"] = products.linear_by_onednn
    d_input = {"mm": products.d_input_by_mm, "convolution": products.d_input_by_convolution}
    d_weight = {
        "mm": products.d_weight_by_mm,
        "convolution": products.d_weight_by_convolution,
        "transposed": products.d_weight_by_transposing,
    }
    for tokens, taken, given in SHAPES:
        x, d_out = torch.randn(tokens, taken).to(dtype), torch.randn(tokens, given).to(dtype)
        weight, bias = torch.randn(given, taken).to(dtype), torch.randn(given).to(dtype)
        flops = 2 * tokens * taken * given
        for what, routes, arguments, now in (
            ("forward", forward, (x, weight, bias), kernels.linear),
            ("input's gradient", d_input, (d_out, weight), kernels.d_input),
            ("weight's gradient", d_weight, (d_out, x), kernels.d_weight),
        ):
            calls = {name: partial(route, *arguments) for name, route in routes.items()}
            taken_now = next(name for name, route in routes.items() if route is now)
            yield _row(dtype, f"{what}, {tokens}, {taken}, {given}", calls, flops, taken_now)


def _attention(dtype: torch.dtype) -> Iterator[dict]:
    """Of ViT-B's heads over a map of tokens, forward and backward, where positions are added."""
    kernels, heads = replace(kernels_of(dtype), flash=False), torch.get_num_threads()
    tensors = [torch.randn(heads, SIDE**2, width) for width in (WIDTH, WIDTH, WIDTH, SIDE, SIDE)]  # q, k, v, row, col
    inputs = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    d_out = torch.randn(heads, SIDE**2, WIDTH).to(dtype)

    def backward(kernels: Kernels) -> None:
        torch.autograd.grad(chunked_attention(*inputs, kernels=kernels), inputs, d_out)

    def forward(kernels: Kernels) -> None:
        with torch.no_grad():
            chunked_attention(*inputs, kernels=kernels)

    shared = {
        "a map": dict(map_a_core=False, map_by_layers=False),
        "by layers": dict(map_a_core=False, map_by_layers=True),
    }
    shared["a map a core"] = dict(map_a_core=True, map_by_layers=kernels.map_by_layers)
    for what, call, count in (("attention forward", forward, 2), ("attention, both ways", backward, 7)):
        for name, settings in shared.items():
            ways = {f"2^{size}": replace(kernels, **settings, map_logits=2**size) for size in (19, 20, 21, 22)}
            now = next((size for size, way in ways.items() if way == kernels), None)
            calls = {size: partial(call, way) for size, way in ways.items()}
            yield _row(dtype, f"{what}, {name}", calls, count * 2 * heads * SIDE**4 * WIDTH, now)


def _row(dtype: torch.dtype, what: str, calls: dict[str, Callable[[], object]], flops: int, taken: str | None) -> dict:
    """The best rate of each of some calls in turn, so that a machine that slows down slows all of them."""
    seconds: dict[str, list[float]] = {name: [timed(call)] for name, call in calls.items()}
    rounds = max(2, min(20, int(SECONDS / max(min(times) for times in seconds.values()))))
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call))
    rates = {name: flops / min(times) / 1e9 for name, times in seconds.items()}
    return {"dtype": str(dtype).removeprefix("torch."), "what": what, "gflops": rates, "taken": taken}
