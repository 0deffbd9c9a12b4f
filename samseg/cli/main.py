"""The commands, and how one of them is called."""

import gc
import sys
from argparse import REMAINDER, ArgumentParser, Namespace, RawDescriptionHelpFormatter

from samseg.cli import (
    benchmark,
    check,
    compare,
    config,
    demo,
    evaluate,
    export,
    infer,
    label_studio,
    merge,
    oneshot,
    push,
    report,
    sample,
    train,
    weights,
)
from samseg.cli.exit_codes import run
from samseg.common.errors import InputError, suggestion

COMMANDS = {
    "train": train,
    "check": check,
    "evaluate": evaluate,
    "infer": infer,
    "oneshot": oneshot,
    "merge": merge,
    "report": report,
    "compare": compare,
    "demo": demo,
    "label-studio": label_studio,
    "export": export,
    "push": push,
    "weights": weights,
    "sample": sample,
    "config": config,
    "benchmark": benchmark,
}
EPILOG = """\
commands:
{commands}

samseg COMMAND --help says more. The first five minutes: samseg train quickstart, samseg evaluate, samseg infer
"""


def main(arguments: list[str] | None = None) -> None:
    """The program `samseg`: call the command that ``arguments`` name (None: the process's own), and exit."""
    gc.set_threshold(10_000)  # with Python's own, commands start 0.3 s later
    run(lambda: _program(sys.argv[1:] if arguments is None else arguments))


def _program(arguments: list[str]) -> int | None:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}   {command.__doc__.strip().splitlines()[0]}" for name, command in COMMANDS.items()]
    parser = ArgumentParser(
        prog="samseg",
        description="Segment Anything's image encoder as the backbone of semantic-segmentation models.",
        epilog=EPILOG.format(commands="\n".join(rows)),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="versions, device and instruction set")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="see below")
    parser.add_argument("arguments", metavar="...", nargs=REMAINDER, help="what the command takes")
    args = parser.parse_args(arguments)
    if args.version:
        from samseg.cli.version import version

        print(version())
        return None
    if args.command is None:
        parser.print_help()
        return 2
    if args.command not in COMMANDS:
        raise InputError(f"no such command: samseg {args.command}{suggestion(args.command, COMMANDS)}")
    return COMMANDS[args.command].run(parsed(parser_of(args.command), args.arguments))


def parser_of(name: str) -> ArgumentParser:
    """The parser of a command."""
    command = COMMANDS[name]
    parser = ArgumentParser(
        prog=f"samseg {name}",
        description=command.__doc__,
        epilog=command.EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return parser


def parsed(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parse a command's arguments; options may stand between settings (key=value) where it says ``intermixed``."""
    if not parser.get_default("intermixed"):
        return parser.parse_args(arguments)
    args, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise InputError(f"{parser.prog} has no option {unknown[0]}; settings are written key=value: train.epochs=3")
    return args
