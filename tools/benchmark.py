"""Measure on this machine what the README claims: python tools/benchmark.py {table,encoder}"""

import argparse
import json

from samseg.cli import run


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure on this machine what the README claims.")
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("table", help="parameters and GFLOP of every encoder, counted")
    encoder = parts.add_parser("encoder", help="the encoder beside other implementations, timed turn by turn")
    encoder.add_argument("--variant", default="sam-vit_b", choices=["sam-vit_b", "sam-vit_l", "sam-vit_h"])
    encoder.add_argument("--size", type=int, default=1024, help="pixels a side (1024)")
    encoder.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    encoder.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    peers = ["segment-anything", "timm", "transformers"]
    encoder.add_argument("--peers", nargs="*", default=["segment-anything", "timm"], choices=peers)
    encoder.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (3)")
    encoder.add_argument("--json", action="store_true", help="print JSON instead of a table")
    cache = parts.add_parser("cache", help="a steady epoch on stored features, beside one that runs the encoder")
    defaults = {"encoder": "sam-vit_b", "arch": "fpn", "decoder": "{}", "size": 1024, "images": 2, "batch": 1}
    for name, default in {**defaults, "dtype": "float16"}.items():  # what they mean: samseg/benchmark/cache.py::compare
        cache.add_argument(f"--{name}", type=type(default), default=default, help="default %(default)s")
    args = parser.parse_args()
    if args.part == "cache":
        from samseg.benchmark.cache import measure

        return print(measure(**{key: value for key, value in vars(args).items() if key != "part"}))

    import torch

    from samseg.benchmark.encoder import compare, encoder_table

    if args.part == "table":
        for row in encoder_table():
            print(f"{row['encoder']:<10} {row['parameters_m']:6.1f} M parameters  {row['gflop']:7.0f} GFLOP at 1024")
        return
    for dtype in args.dtype:
        found = compare(args.variant, args.size, getattr(torch, dtype), args.train, args.peers, args.repeats)
        if args.json:
            print(json.dumps({"variant": args.variant, "size": args.size, "dtype": dtype, "train": args.train} | found))
            continue
        what = "forward and backward" if args.train else "inference"
        print(
            f"{args.variant}, {args.size} pixels, {dtype}, {what}, {found['device']}, {torch.get_num_threads()} threads"
        )
        print(f"GEMM peak {found['gemm_gflops']:.0f} GFLOP/s")
        for name, row in found["implementations"].items():
            memory = f"  {row['peak_gib']:5.2f} GiB" if row["peak_gib"] is not None else ""
            rate = f"  {row['of_gemm']:4.0%} of GEMM" if "of_gemm" in row else ""
            print(f"{name:<17} {row['seconds']:7.2f} s  x {row['ratio']:.2f}{rate}{memory}  error {row['error']:.1e}")
        for name, reason in found["missing"].items():
            print(f"{name:<17} left out: {reason}")


if __name__ == "__main__":
    run(main)
