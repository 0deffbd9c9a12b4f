"""Parameters and GFLOP of every encoder, counted."""

import math
from argparse import ArgumentParser, Namespace

import torch
from torch.utils.flop_counter import FlopCounterMode

from samseg.encoders.registry import ROWS
from samseg.encoders.vit import PATCH, SamViT


def add_arguments(parser: ArgumentParser) -> None:
    """None are needed."""


def run(args: Namespace) -> None:
    print(encoder_table())


def encoder_table() -> str:
    """Parameters and cost of every registered trunk at 1024 pixels, a line each."""
    lines = []
    for name, variant in ROWS.items():
        with torch.device("meta"):
            parameters = sum(p.numel() for p in variant.build().parameters())
        lines.append(f"{name:<12} {parameters / 1e6:6.1f} M parameters  {gflop(name, 1024):7.0f} GFLOP at 1024")
    return "\n".join(lines)


def gflop(variant: str, size: int) -> float:
    """What one image of size x size pixels needs, in GFLOP, two for a multiply-add.

    For the ViTs the matrix products of the formula, without those of padding tokens, whose q, k and v are the biases;
    for `sam-vit_t` counted on the network itself.
    """
    row = ROWS[variant]
    if row.trunk is not SamViT:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            row.build().eval()(torch.empty(1, 3, size, size))
        return counter.get_total_flops() / 1e9
    width, depth, whole = row.arguments["width"], row.arguments["depth"], len(row.arguments["global_blocks"])
    side, window = size // PATCH, 14
    windows = math.ceil(side / window) ** 2
    linear = 12 * width**2 * side**2 * depth  # qkv 3, proj 1, MLP 8
    attention = whole * side**4 + (depth - whole) * windows * window**4  # logits, and as much for the values
    positions = whole * side**3 + (depth - whole) * windows * window**3  # each for rows and columns
    ends = side**2 * (3 * PATCH**2 * width + 256 * width + 9 * 256 * 256)  # patch embedding and neck
    return 2 * (linear + 2 * width * (attention + positions) + ends) / 1e9
