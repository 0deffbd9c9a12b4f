"""Measure on this machine what the README claims; needs the repository."""

import importlib
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.common.errors import InputError

REPOSITORY = Path(__file__).parents[2]
EPILOG = """\
examples:
  samseg benchmark table                          parameters and GFLOP of every encoder
  samseg benchmark encoder --size 512 --train     a training step of the encoder beside other implementations
"""


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of each benchmark are declared beside it, in the same way as those of a command."""
    if not (REPOSITORY / "benchmarks").is_dir():
        raise InputError("the benchmarks are in samseg's repository, not in the installed package: run it in a clone")
    if str(REPOSITORY) not in sys.path:
        sys.path.append(str(REPOSITORY))
    parts = parser.add_subparsers(dest="part", metavar="BENCHMARK", required=True)
    for name, benchmark in importlib.import_module("benchmarks").BENCHMARKS.items():
        part = parts.add_parser(name, help=benchmark.__doc__.partition("\n")[0], description=benchmark.__doc__)
        benchmark.add_arguments(part)
        part.set_defaults(measure=benchmark.run)


def run(args: Namespace) -> int | None:
    return args.measure(args)
