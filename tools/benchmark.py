"""Measure on this machine what the README claims: python tools/benchmark.py {table,encoder}"""

import argparse
import json
from itertools import product

from samseg.cli import run


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure on this machine what the README claims.")
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("table", help="parameters and GFLOP of every encoder, counted")
    encoder = parts.add_parser("encoder", help="the encoder beside other implementations, timed turn by turn")
    encoder.add_argument("--variant", default="sam-vit_b", choices=["sam-vit_b", "sam-vit_l", "sam-vit_h"])
    encoder.add_argument("--size", type=int, nargs="+", default=[1024], help="pixels a side (1024)")
    encoder.add_argument("--batch", type=int, nargs="+", default=[1], help="images at a time (1)")
    encoder.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    encoder.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    peers = ["segment-anything", "timm", "transformers"]
    encoder.add_argument("--peers", nargs="*", default=["segment-anything", "timm"], choices=peers)
    encoder.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (3)")
    encoder.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()

    import torch

    from samseg.benchmark.encoder import as_table, compare, encoder_table

    if args.part == "table":
        for row in encoder_table():
            print(f"{row['encoder']:<10} {row['parameters_m']:6.1f} M parameters  {row['gflop']:7.0f} GFLOP at 1024")
        return
    for dtype, size, batch in product(args.dtype, args.size, args.batch):
        found = compare(args.variant, batch, size, getattr(torch, dtype), args.train, args.peers, args.repeats)
        if args.json:
            asked = {"variant": args.variant, "batch": batch, "size": size, "dtype": dtype, "train": args.train}
            print(json.dumps(asked | found))
        else:
            what = "training" if args.train else "inference"
            print(f"{args.variant}, {batch} x 3 x {size} x {size}, {dtype}, {what}")
            print(as_table(found))


if __name__ == "__main__":
    run(main)
