"""Measure on this machine what the README claims: python tools/benchmark.py {table,encoder,cache,train}"""

import argparse

from samseg.adapters.methods import METHODS
from samseg.cli.exit_codes import run

VITS = ["sam-vit_b", "sam-vit_l", "sam-vit_h"]
PEERS = ["segment-anything", "timm", "transformers"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure on this machine what the README claims.")
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("table", help="parameters and GFLOP of every encoder, counted")
    encoder = parts.add_parser("encoder", help="the encoder beside other implementations, timed turn by turn")
    encoder.add_argument("--variant", default="sam-vit_b", choices=VITS)
    encoder.add_argument("--size", type=int, nargs="+", default=[1024], help="pixels a side (1024)")
    encoder.add_argument("--batch", type=int, nargs="+", default=[1], help="images at a time (1)")
    encoder.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    encoder.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    encoder.add_argument("--peers", nargs="*", default=PEERS[:2], choices=PEERS)
    encoder.add_argument("--repeats", type=int, default=3, help="runs of each, of which the median counts (3)")
    encoder.add_argument("--json", action="store_true", help="print JSON instead of a table")
    cache = parts.add_parser("cache", help="a steady epoch on stored features, beside one that runs the encoder")
    defaults = {"encoder": "sam-vit_b", "arch": "fpn", "decoder": "{}", "size": 1024, "images": 2, "batch": 1}
    for name, default in {**defaults, "dtype": "float16"}.items():  # what they mean: samseg/benchmark/cache.py::compare
        cache.add_argument(f"--{name}", type=type(default), default=default, help="default %(default)s")
    train = parts.add_parser("train", help="a training step frozen, adapted and free: speed, memory, checkpoint")
    for name in ("encoder", "size", "batch", "arch"):
        train.add_argument(f"--{name}", type=type(defaults[name]), default=defaults[name], help="default %(default)s")
    methods = ["frozen + cache", "frozen", *METHODS, "full"]
    train.add_argument("--methods", nargs="+", default=methods, choices=methods, help="some of them (all)")
    train.add_argument("--checkpointing", action="store_true", help="gradient checkpointing where it does something")
    args = vars(parser.parse_args())
    part = args.pop("part")
    if part == "table":
        from benchmarks.encoder import encoder_table

        print(encoder_table())
    elif part == "encoder":
        from benchmarks.encoder import print_comparisons

        print_comparisons(**args)
    elif part == "cache":
        from benchmarks.cache import measure

        print(measure(**args))
    else:
        from benchmarks.train import measure

        print(measure(**args))


if __name__ == "__main__":
    run(main)
