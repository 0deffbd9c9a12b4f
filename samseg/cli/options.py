"""Options that several commands take."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any


def add_settings(parser: ArgumentParser) -> None:
    """Settings of a configuration, with options between them; behind the other positional arguments."""
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings that go before the file's"
    )
    parser.set_defaults(intermixed=True)


def add_run(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="a run folder or hub:USER/NAME; default: the newest of runs/"
    )


def add_device(parser: ArgumentParser) -> None:
    parser.add_argument("--device", help="cuda, cuda:1, mps, cpu ...; default: a GPU if there is one")


def add_tta(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--tta", nargs="?", const="d4", choices=("flips", "d4"),
        help="average over flips (4 times the time), or over flips and quarter turns (d4, the default: 8 times)",
    )  # fmt: skip


WAYS = ("components", "prompts", "amg")  # to objects


def add_objects(parser: ArgumentParser, purpose: str) -> None:
    parser.add_argument(
        "--objects", metavar="WAY", nargs="?", const="auto", choices=("auto", *WAYS),
        help=f"{purpose}: components, prompts or amg, see below; without WAY: prompts for a run that trained SAM's "
        "mask decoder, else components",
    )  # fmt: skip


def add_precision(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "auto"),
        help="on a CPU, with SAM's encoder: fp32 (the default), bf16 where the CPU has instructions for it, or auto, "
        "which tries both on the first image and takes bf16 where it is faster and at most 0.5 %% of pixels differ",
    )  # fmt: skip


def add_cluster(parser: ArgumentParser, what: str) -> Any:
    """The options of a Ray cluster, on which ``what`` is done; returns their group, for more of them."""
    cluster = parser.add_argument_group("on a Ray cluster", what)
    cluster.add_argument("--engine", choices=("ray",), help="without it all is done on this machine")
    cluster.add_argument("--address", help="of the cluster, such as auto; default: one is started on this machine")
    cluster.add_argument("--gpus-per-worker", type=float, default=0, metavar="G", help="such as 1 or 0.5")
    return cluster


def shard(text: str) -> tuple[int, int]:
    """The number of a share, from 1, and of how many."""
    try:
        index, count = map(int, text.split("/"))
    except ValueError:
        raise ArgumentTypeError(f"I/N, such as 1/8, got {text!r}") from None
    if not 1 <= index <= count:
        raise ArgumentTypeError(f"1/{count} to {count}/{count}, got {text}")
    return index, count
