"""Measure a trained run on a split: python tools/evaluate.py [RUN] [split]"""

import argparse
from pathlib import Path

from samseg.cli.exit_codes import run

EPILOG = """\
examples:
  python tools/evaluate.py                     the newest run under runs/, on its test images
  python tools/evaluate.py runs/buildings val
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print a run's IoU, F1 and accuracy per class on a split; write them to RUN/metrics_SPLIT.json.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="a run folder; default: the newest under runs/"
    )
    parser.add_argument("split", nargs="?", default="test", help="a folder of data.root; default: test")
    args = parser.parse_args()

    from samseg.runs.folder import newest_run
    from samseg.training.evaluation import evaluate_run

    folder = args.run or newest_run()
    found = evaluate_run(folder, args.split)
    print(f"{folder} on {args.split}:\n{found.table}\nwritten to {found.path}")


if __name__ == "__main__":
    run(main)
