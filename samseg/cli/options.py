"""Options that several commands take."""

from argparse import ArgumentParser


def add_tta(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--tta", nargs="?", const="d4", choices=("flips", "d4"),
        help="average over flips (4 times the time), or over flips and quarter turns (d4, the default: 8 times)",
    )  # fmt: skip
