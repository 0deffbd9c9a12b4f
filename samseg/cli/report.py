"""Write a run's report, or one page that compares several runs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
examples:
  samseg report                              the newest run under runs/: its report.html, from what it holds
  samseg report runs/frozen runs/lora        what differs, and how sure that is; written to comparison.html

Training and samseg evaluate write report.html by themselves. Runs are compared on the splits that all of them were
evaluated on: val after training, test after samseg evaluate RUN.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="*", type=Path, help="run folders; default: the newest under runs/"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("comparison.html"), help="of several runs (comparison.html)"
    )


def run(args: Namespace) -> None:
    from samseg.report.compare import write_comparison
    from samseg.report.run import write_report
    from samseg.runs.folder import newest_run

    runs = args.runs or [newest_run()]
    file = write_report(runs[0]) if len(runs) == 1 else write_comparison(runs, args.out)
    print(f"open {file}")
