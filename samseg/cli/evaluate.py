"""Print a run's figures on a split, and write them to RUN/metrics_SPLIT.json and its report."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.cli.options import add_tta

EPILOG = """\
examples:
  samseg evaluate                     the newest run under runs/, on its test images
  samseg evaluate runs/buildings val
  samseg evaluate --tta               averaged over flips and turns
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="a run folder; default: the newest under runs/"
    )
    parser.add_argument("split", nargs="?", default="test", help="a folder of data.root; default: test")
    add_tta(parser)


def run(args: Namespace) -> None:
    from samseg.runs.folder import newest_run
    from samseg.training.evaluation import evaluate_run

    folder = args.run or newest_run()
    found = evaluate_run(folder, args.split, args.tta)
    print(f"{folder} on {args.split}:\n{found.table}")
    *files, report = found.write()
    print(f"written to {', '.join(map(str, files))}; report: {report}")
