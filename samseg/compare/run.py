"""A comparison from its plan to its page."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from samseg.common.errors import InputError
from samseg.common.text_table import text_table
from samseg.compare.page import CSV, table, write_comparison_page, write_csv
from samseg.compare.plan import Plan, Trial
from samseg.compare.results import Result, results_of, verdict
from samseg.compare.trial import LOG, in_processes, is_done
from samseg.evaluation.evaluate_run import evaluate_run
from samseg.report.run import score
from samseg.runs.config.load import task_of
from samseg.runs.facts import load_split, splits_of
from samseg.tasks import Task

Engine = Callable[[Iterable[Trial]], Iterator[tuple[Trial, str | None]]]


def compare(plan: Plan, out: Path, shard: tuple[int, int] | None = None, engine: Engine = in_processes) -> int:
    """Train what of the ``plan`` is not done, say what came out, and write it into ``out``; how many runs failed.

    A run that fails is said, and the others go on. The best one alone is evaluated on test, once and when nothing is
    left to train. Of a ``shard`` (number, from 1, of how many) the runs are trained and no more. ``engine`` trains
    runs and yields each with what went wrong with it, or None. InputError for data that cannot be trained on.
    """
    task = task_of(plan.trials[0].config)
    print(task.check(("train", "val")))
    for note in plan.notes:
        print(note)
    trials = plan.trials[shard[0] - 1 :: shard[1]] if shard else plan.trials
    todo = [trial for trial in trials if not is_done(trial)]
    print(f"{len(trials)} runs in {out}, {len(trials) - len(todo)} of them done already; each writes its {LOG}")
    failed: dict[str, str] = {}  # by the folder's name
    for number, (trial, error) in enumerate(engine(todo), 1):
        if error is not None:
            failed[trial.folder.name] = error
        outcome = f"FAILED: {error}" if error else score(task, load_split(trial.folder, "val")[0])
        print(f"{number}/{len(todo)} {trial.folder.name}: {outcome}", flush=True)
    if shard:
        print("the same command without --shard gathers what all shards trained")
        return len(failed)
    results = results_of(plan.trials, task)
    if not results:
        raise InputError(f"nothing was trained: {next(iter(failed.values()))}")
    tested = _test_winner(results[0], task)
    write_csv(results, out / CSV)
    sentence = f"{verdict(results, task)} {tested}."
    found = table(results, task, plan.notes)
    page = write_comparison_page(found, results, failed, task, sentence, out)
    print(f"\n{text_table([found.head, *found.rows])}\n\nopen {page}; {out / CSV}\n{sentence}")
    return len(failed)


def _test_winner(best: Result, task: Task) -> str:
    """Evaluate the best run on test unless it was, and say what came out."""
    run = best.runs[0]
    try:
        if "test" not in splits_of(run):
            evaluate_run(run, "test").write()
    except InputError as error:
        return f"Not evaluated on test: {error}"
    figures, _, _ = load_split(run, "test")
    return f"On test, which was looked at for it alone: {score(task, figures)}"
