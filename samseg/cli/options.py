"""Options that several commands take."""

from argparse import ArgumentParser


def add_tta(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--tta", nargs="?", const="d4", choices=("flips", "d4"),
        help="average over flips (4 times the time), or over flips and quarter turns (d4, the default: 8 times)",
    )  # fmt: skip


def add_precision(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"),
        help="of SAM's encoder on a CPU: fp32 (the default), bf16 where the CPU has instructions for it, or auto, "
        "which tries both on the first image and takes bf16 where it is faster and at most 0.5 %% of pixels differ",
    )  # fmt: skip
