"""Write a run's report, or one page that compares several runs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
examples:
  samseg report                              the newest run under runs/: its report.html, from what it holds
  samseg report runs/frozen runs/lora        what differs, and how sure that is; written to comparison.html
  samseg report hub:user/buildings           what a published run tells of itself; in hub/user/buildings
  samseg report hub:user/a hub:user/b        what they tell, side by side

Training and samseg evaluate write report.html by themselves. Runs are compared on the splits that all of them were
evaluated on: val after training, test after samseg evaluate RUN. How sure the difference of published runs is, is known
after samseg evaluate hub:USER/NAME --data DIR for each of them.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="*", type=Path, help="run folders or hub:USER/NAME; default: the newest of runs/"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("comparison.html"), help="of several runs (comparison.html)"
    )


def run(args: Namespace) -> None:
    from samseg.report.compare import write_comparison
    from samseg.report.run import write_report
    from samseg.runs.folder import CONFIG, HISTORY, METRICS, copy_run, newest_run
    from samseg.runs.hub.pull import hub_name, local_run, outputs_folder

    runs, places = args.runs or [newest_run()], []
    for run in runs:
        place = run
        if hub_name(run) is not None:  # its weights are not asked for
            place, files = outputs_folder(run), (CONFIG, METRICS, HISTORY)
            copy_run(local_run(run, files), place, files)
        places.append(place)
    file = write_report(places[0], str(runs[0])) if len(places) == 1 else write_comparison(places, args.out)
    print(f"open {file}")
