"""Check images and labels as training does before its first step, and show what is wrong."""

import json
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samseg.cli.options import add_settings
from samseg.common.errors import InputError

if TYPE_CHECKING:
    from samseg.data.check import DataProblems
    from samseg.data.config import DataConfig
    from samseg.runs.config.schema import RunConfig

EPILOG = """\
examples:
  samseg check my/data                               a folder or an export: what it holds, and how to train it
  samseg check my/data data.source=coco              what is not found out rightly can be said
  samseg check my.yaml data.root=/my/images          what samseg train my.yaml data.root=/my/images would say
  samseg check buildings                             a shipped configuration

Of a folder each value of the masks (or colour, or label) is taken for a class. All that is wrong is listed, and drawn
into problems.png: images, labels with undeclared values in magenta, and the reason.
Exit codes: 0 training would begin; 2 it would refuse.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DATA|CONFIG", help="a folder with train/, val/ and test/, or what samseg train takes"
    )
    add_settings(parser)
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        default=Path("problems.png"),
        help="pictures of what is wrong (problems.png)",
    )


def run(args: Namespace) -> int | None:
    from samseg.cli.train import prepare_sample
    from samseg.data.check import DataProblems
    from samseg.runs.config.load import task_of

    given = Path(args.data)
    config, found, what = _configuration(given, args.overrides)
    data = config.data
    prepare_sample(Path(data.root))
    print(f"{data.root}, data.source={data.source}{': ' if what else ''}{what}")
    try:
        print(task_of(config).check(_splits(data)))
    except DataProblems as error:
        if report := str(error.report or ""):
            print(report)
        _show(error, data, args.out)
        return 2
    if not given.is_dir():
        print(f"nothing is wrong; next: samseg train {shlex.join([args.data, *args.overrides])}")
        return None
    texts = {key: value if key == "root" else json.dumps(value, ensure_ascii=False) for key, value in found.items()}
    settings = [f"data.{key}={text}" for key, text in texts.items()]
    command = f"samseg train buildings {shlex.join([*settings, *args.overrides])}"
    print(f"nothing is wrong; next, with names of your own: {command}")
    return None


def _configuration(given: Path, overrides: list[str]) -> "tuple[RunConfig, dict[str, Any], str]":
    """The configuration; of a folder also what was found there, by its key in ``data``, and that in words."""
    from samseg.runs.config.guess import config_for
    from samseg.runs.config.load import load_config
    from samseg.runs.config.shipped import find_config, shipped
    from samseg.runs.config.typed_yaml import YAML_SUFFIXES

    if given.is_dir():
        return config_for(given, overrides)
    if not given.exists() and given.suffix not in YAML_SUFFIXES and str(given) not in shipped():
        raise InputError(f"no such folder: {given}; a configuration is a YAML file, or one of {', '.join(shipped())}")
    return load_config(find_config(given), overrides), {}, ""


def _splits(data: "DataConfig") -> list[str]:
    """The splits that training needs, and test if there is one."""
    from samseg.data.config import split_images

    try:
        split_images(data, "test")
    except InputError:
        print("there is no test split; training needs none")
        return ["train", "val"]
    return ["train", "val", "test"]


def _show(found: "DataProblems", data: "DataConfig", out: Path) -> None:
    """List all that is wrong, each once, and write pictures of it."""
    from samseg.tasks.problems import save_problems

    print(f"wrong ({len(found.splits)}), training would refuse it:")
    for error, splits in found.splits.items():
        print(f"  {', '.join(splits)}: {error}")
    if save_problems(data, found.problems, out):
        print(f"pictures: {out}")
