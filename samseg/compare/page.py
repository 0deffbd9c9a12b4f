"""What is shown of a comparison: a table for the terminal, a CSV, and one page."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import nn

from samseg.compare.results import Result
from samseg.report.compare import differences
from samseg.report.page import Page
from samseg.report.run import curves, read_history, write_page
from samseg.runs.config.load import task_of
from samseg.runs.facts import load_split, splits_of
from samseg.runs.folder import read_run_config
from samseg.runs.load import load_run
from samseg.runs.state import write_rows
from samseg.tasks import Task
from samseg.tasks.bootstrap import with_bounds
from samseg.tasks.sections import Chart, Gallery, Point, Scatter, Section, Table

PAGE, CSV = "compare.html", "compare.csv"
SHOWN = 3  # candidates side by side
SURE = "Brackets: 95 % confidence intervals by the bootstrap over validation images, the same draws for all"


def table(results: Sequence[Result], task: Task, notes: Sequence[str] = ()) -> Table:
    """The candidates, the best first, those of fewer labels behind."""
    best = results[0]
    fractions = len({result.candidate.fraction for result in results}) > 1
    head = ["encoder, method", *(["images"] if fractions else []), f"{task.score_name}, val", "difference to the best"]
    head += ["trained", "epochs", "s an epoch", "peak memory", "s a megapixel"]
    rows = []
    for result in results:
        costs, change = result.costs, result.change(best)
        difference, bounds = (change[0], change[1:]) if change else (result.score - best.score, None)
        behind = "best" if result is best else with_bounds(difference, bounds, "+.3f")
        rows.append(
            [
                f"{result.candidate.encoder}, {result.candidate.method}",
                *([f"{costs.images:g}"] if fractions else []),
                with_bounds(result.score, result.interval()),
                behind,
                f"{costs.parameters / 1e6:.2f} M",
                f"{costs.epochs:g}",
                f"{costs.epoch_s:.3g}",
                "-" if costs.memory_gb is None else f"{costs.memory_gb:.2f} GB",
                "-" if costs.megapixel_s is None else f"{costs.megapixel_s:.3g}",
            ]
        )
    repeats = max(len(result.runs) for result in results)
    known = [] if best.draws is None else [SURE]
    known += [f"Of {repeats} repeats these are the means; their spread is not shown"] if repeats > 1 else []
    known += ["An epoch includes its validation; cached features are computed before", *notes]
    return Table("Results", head, rows, ". ".join(known) + ".")


def write_csv(results: Sequence[Result], file: Path) -> None:
    """A row a candidate, with plain numbers and the folder of its best run."""
    rows = []
    for result in results:
        change = result.change(results[0])
        row = asdict(result.candidate) | {"repeats": len(result.runs), "score": result.score}
        row |= dict(zip(("low", "high"), result.interval() or (None, None), strict=True))
        row |= dict(zip(("difference", "difference_low", "difference_high"), change or [None] * 3, strict=True))
        rows.append(row | asdict(result.costs) | {"run": str(result.runs[0])})
    write_rows(rows, file)


def write_comparison_page(
    shown: Table, results: Sequence[Result], failed: dict[str, str], task: Task, lead: str, out: Path
) -> Path:
    """Write `compare.html` into ``out`` and return it; ``lead`` says what follows from it.

    ``shown``: what `table` gives for the ``results``. ``failed``: why, by the name of the run's folder. The best runs'
    models are loaded for their pictures.
    """
    whole = [result for result in results if result.candidate.fraction == results[0].candidate.fraction]
    groups: list[tuple[str, list[Section]]] = [("Results", [shown])]
    if len(whole) > 1:
        groups.append(("Score against cost", list(_costs(whole, task))))
    if len(whole) < len(results):
        groups.append(("How many labels", [_labels(results, task)]))
    gallery = _side_by_side(whole[:SHOWN], task)
    if gallery is not None:
        groups.append(("Side by side", [gallery]))
    winner = results[0].runs[0]
    if "test" in splits_of(winner):
        figures, details, examples = load_split(winner, "test")
        sections = task.reporter().results(figures, details)
        title = f"The best on test: {results[0].candidate}"
        groups.append((title, [*sections, *([examples] if examples else [])]))
    names = {str(result.candidate): result.runs[0] for result in whole}
    histories = {name: read_history(run) for name, run in list(names.items())[:SHOWN]}
    groups.append(("Training of the best", curves(task, histories)))
    ran: list[Section] = [differences({name: read_run_config(run) for name, run in names.items()})]
    if failed:
        ran.append(Table("Failed", ["run", "why"], [list(row) for row in failed.items()]))
    groups.append(("What ran", ran))
    return write_page(Page(f"Which backbone: {out.resolve().name}", lead, groups), out / PAGE)


def _costs(results: Sequence[Result], task: Task) -> Iterator[Scatter]:
    y, note = f"{task.score_name} on val", "Higher and further left is better."
    for title, x, cost in (
        ("In prediction", "seconds a megapixel", "megapixel_s"),
        ("In training", "seconds an epoch", "epoch_s"),
    ):
        points = [
            Point(result.candidate.method, result.candidate.encoder, seconds, result.score, result.interval())
            for result in results
            if (seconds := getattr(result.costs, cost))
        ]
        if points:
            yield Scatter(title, x, y, points, note)


def _labels(results: Sequence[Result], task: Task) -> Chart:
    series: dict[str, list[tuple[float, float | None]]] = {}
    for result in results:
        name = f"{result.candidate.encoder}, {result.candidate.method}"
        series.setdefault(name, []).append((result.costs.images, result.score))
    series = {name: sorted(points) for name, points in series.items()}  # the best first, as in the other pictures
    return Chart("Score by the number of labels", "training images", f"{task.score_name} on val", series)


def _side_by_side(results: Sequence[Result], task: Task) -> Gallery | None:
    runs = {str(result.candidate): result.runs[0] for result in results}

    def networks() -> Iterator[tuple[str, Task, nn.Module]]:
        for name, run in runs.items():  # one at a time in memory
            model, config = load_run(run)
            yield name, task_of(config), model

    details = {name: load_split(run, "val")[1] for name, run in runs.items()}
    return task.reporter().side_by_side(networks(), "val", details)
