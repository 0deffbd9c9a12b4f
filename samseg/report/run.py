"""The report of a run, from what lies in its folder."""

import csv
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from samseg.common.errors import InputError
from samseg.common.files import write_bytes
from samseg.report.page import Page, render
from samseg.runs.config.load import task_of, to_yaml
from samseg.runs.config.schema import RunConfig
from samseg.runs.facts import EVALUATED, load_facts, load_split, splits_of
from samseg.runs.folder import CONFIG, HISTORY, METRICS, REPORT, flat, read_run_config
from samseg.tasks import Task
from samseg.tasks.sections import Chart, Section, Table, Text
from samseg.tasks.task import Figures

LEFT_OUT = {"run_dir", "train.resume"}  # of the settings: they say nothing about the result


def write_report(folder: Path, run: str | None = None) -> Path:
    """Write a run's report from what its folder holds, neither data nor weights; returns the file.

    ``run``: what commands call it, where that is not its folder. InputError for a folder that is no run, or holds a
    damaged file.
    """
    config = read_run_config(folder)
    task, reporter = task_of(config), task_of(config).reporter()
    facts, data = load_facts(folder)
    history = read_history(folder)
    groups: list[tuple[str, list[Section]]] = []
    leads, evaluated = [], {}
    for split in splits_of(folder):
        figures, details, gallery = load_split(folder, split)
        sections = [*reporter.results(figures, details), *reporter.objects(figures)]
        groups.append((f"Results: {split}", [*sections, *([gallery] if gallery else [])]))
        leads.append(f"{score(task, figures)} on {split}")
        evaluated[split] = figures.get(EVALUATED)
    for split, figures in read_metrics(folder).items():
        if split not in evaluated:
            groups.append((f"Results: {split}", [table(task, figures, folder), *reporter.objects(figures)]))
            leads.append(f"{score(task, figures)} on {split}")
    if history:
        groups.append(("Training", list(curves(task, {"": history}))))
    groups.append(
        ("Data and settings", [*([data] if data else []), settings(config), Text("All settings", to_yaml(config))])
    )
    commands = _commands(folder, run or str(folder), config, evaluated)
    groups.append(("What ran, and how to repeat it", [_time(history, facts), commands]))
    lead = f"{config.task}, {config.model.arch} with {config.model.encoder}: {', '.join(leads) or 'not evaluated yet'}"
    page = Page(folder.resolve().name, lead, groups)
    return write_page(page, folder / REPORT)


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """The rows of a run's history, none before the first epoch's end; InputError when it is damaged."""
    try:
        with open(folder / HISTORY, newline="", encoding="utf-8") as file:
            return [
                {key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise InputError(f"{folder / HISTORY} is damaged ({error})") from None


def curves(task: Task, histories: dict[str, list[dict]]) -> list[Chart]:
    """Loss, validation figures and learning rate over the epochs of runs by name; a single one needs no name."""

    def line(column: str, history: list[dict]) -> list[tuple[float, float | None]]:
        return [(row["epoch"], row[column]) for row in history]

    def chart(title: str, columns: dict[str, str]) -> Chart:
        series = {
            ": ".join(filter(None, (run, label))): line(column, history)
            for run, history in histories.items()
            for column, label in columns.items()
        }
        values = [y for points in series.values() for _, y in points if y is not None]
        shares = title == "Validation" and all(0 <= value <= 1 for value in values)
        return Chart(title, "epoch", title, series, unit=shares)

    return [
        chart("Training loss", {"loss": "loss"}),
        chart("Validation", task.labels),
        chart("Learning rate", {"lr": "learning rate"}),
    ]


def settings(config: RunConfig) -> Table:
    """The settings that are not the defaults."""
    found, default = flat(asdict(config)), flat(asdict(RunConfig()))
    rows = [[key, as_text(value)] for key, value in found.items() if value != default.get(key) and key not in LEFT_OUT]
    return Table("Settings other than the defaults", ["key", "value"], rows)


def _time(history: list[dict], facts: dict[str, Any]) -> Table:
    seconds = [row["seconds"] for row in history if row.get("seconds") is not None]
    rows = [["epochs", str(len(history))]]
    if seconds:
        rows.append(["time", duration(sum(seconds))])
        rows.append(["time an epoch", duration(sum(seconds) / len(seconds))])
    return Table("What ran", ["", ""], rows + [[name, str(value)] for name, value in facts.items()])


def read_metrics(folder: Path) -> dict[str, Figures]:
    """The figures by split in `metrics.json`, which are all that a run from the hub has."""
    try:
        content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return {split: figures for split, figures in content.items() if isinstance(figures, dict)}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{folder / METRICS} is damaged ({error})") from None


def table(task: Task, figures: Figures, folder: Path, title: str = "Results") -> Text:
    """A split's figures from `metrics.json` as text; InputError where they are not the task's."""
    try:
        return Text(title, task.table(figures))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / METRICS} is damaged ({error!r})") from None


def _commands(folder: Path, run: str, config: RunConfig, evaluated: dict[str, dict[str, str] | None]) -> Text:
    """The commands of a run. ``evaluated``: with which options, by split; None where training did it."""
    where = shlex.quote(run)
    again = shlex.quote(f"run_dir={folder}-again")
    evaluations = [
        " ".join(["samseg evaluate", where, split, *(f"--{key} {shlex.quote(options[key])}" for key in options)])
        for split, options in evaluated.items()
        if options is not None
    ]
    lines = [
        f"samseg train {shlex.quote(str(folder / CONFIG))} {again}",
        *(evaluations or [f"samseg evaluate {where}"]),
        f"samseg infer {where} IMAGE ...",
        f"samseg report {where} OTHER_RUN",
    ]
    return Text("Commands", "\n".join(lines), f"The same seed ({config.seed}) draws the same images in the same order.")


def score(task: Task, figures: Figures) -> str:
    """The figure that picks the best epoch, with its name."""
    value = figures.get(task.score)
    return f"{task.score_name} {'-' if value is None else f'{value:.3f}'}"


def as_text(value: Any) -> str:
    """A setting's value for people."""
    return "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def duration(seconds: float) -> str:
    """ "12.3 s", "4 min 5 s" or "2 h 30 min"."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def write_page(page: Page, file: Path) -> Path:
    """Write a page whole, and return its file."""
    write_bytes(file, render(page).encode())
    return file
