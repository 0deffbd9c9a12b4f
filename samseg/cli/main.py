"""The commands, and how one of them is called."""

import re
import sys
from argparse import REMAINDER, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable

from samseg.cli import (
    benchmark,
    check,
    config,
    demo,
    evaluate,
    export,
    infer,
    merge,
    oneshot,
    push,
    report,
    sample,
    train,
    weights,
)
from samseg.cli.exit_codes import run
from samseg.errors import InputError, suggestion

COMMANDS = {
    "train": train,
    "check": check,
    "evaluate": evaluate,
    "infer": infer,
    "oneshot": oneshot,
    "merge": merge,
    "report": report,
    "demo": demo,
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
    run(lambda: _program(sys.argv[1:] if arguments is None else arguments))


def tool(name: str) -> None:
    """The file tools/NAME.py: the command of that name, which speaks of itself and its sisters as files of tools/."""
    run(lambda: _call(name, sys.argv[1:], words_of_tools), words_of_tools)


def words_of_tools(text: str) -> str:
    """``text`` with `python tools/NAME.py` where it says `samseg NAME`, for the commands that have a file there."""
    names = "train|evaluate|infer|export|benchmark"
    text = re.sub(rf"-m samseg ({names})\b", r"tools/\1.py", text)
    return re.sub(rf"\bsamseg ({names})\b", r"python tools/\1.py", text)


def _program(arguments: list[str]) -> int | None:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}   {_first_line(command.__doc__)}" for name, command in COMMANDS.items()]
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
    return _call(args.command, args.arguments)


def parser_of(name: str, words: Callable[[str], str] = str) -> ArgumentParser:
    """The parser of a command, in the reader's ``words`` (see `samseg.cli`)."""
    command = COMMANDS[name]
    parser = ArgumentParser(
        prog=words(f"samseg {name}"),
        description=command.__doc__,
        epilog=words(command.EPILOG),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.set_defaults(words=words)
    command.add_arguments(parser)
    return parser


def _call(name: str, arguments: list[str], words: Callable[[str], str] = str) -> int | None:
    return COMMANDS[name].run(parsed(parser_of(name, words), arguments))


def parsed(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """What a command is given; options may stand between settings (key=value) where it says ``intermixed``."""
    if not parser.get_default("intermixed"):
        return parser.parse_args(arguments)
    args, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise InputError(f"{parser.prog} has no option {unknown[0]}; settings are written key=value: train.epochs=3")
    return args


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
