"""One page about several runs: how their results differ, and how sure that is."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from samseg.common.errors import InputError
from samseg.report.page import Page
from samseg.report.run import LEFT_OUT, as_text, curves, read_history, read_metrics, score, table, write_page
from samseg.runs.config.load import task_of
from samseg.runs.config.schema import RunConfig
from samseg.runs.facts import load_split, splits_of
from samseg.runs.folder import flat, read_run_config
from samseg.tasks.sections import Section, Table
from samseg.tasks.task import Figures

ALONE = (
    "Figures alone, as the runs' makers wrote them: they do not say how sure a difference is, nor whether the images "
    "were the same. samseg evaluate RUN --data DIR for each of the runs, then this again, says both."
)


def write_comparison(folders: list[Path], out: Path) -> Path:
    """Write one page about several runs, the first of which the others are compared with; returns the file.

    Where one of them has figures of a split alone, as runs from the hub have, these stand side by side.

    InputError for folders that are no runs, runs of different tasks or classes, and runs without a split in common.
    """
    names = _names(folders)
    runs = dict(zip(names, folders, strict=True))
    configs = {name: read_run_config(folder) for name, folder in runs.items()}
    task = task_of(configs[names[0]])
    for name, config in configs.items():
        _check_same(name, config, names[0], configs[names[0]])
    groups: list[tuple[str, list[Section]]] = []
    leads = []
    kept, figures = ({name: read(folder) for name, folder in runs.items()} for read in (splits_of, _figures))
    for split in _common(figures):
        scores = [f"{name} {score(task, found[split])}" for name, found in figures.items()]
        leads.append(f"{split}: {', '.join(scores)}")
        if split in _common(kept):
            sections = task.reporter().comparison({name: load_split(run, split)[1] for name, run in runs.items()})
        else:
            sections = [table(task, figures[name][split], run, name) for name, run in runs.items()]
            sections[-1] = replace(sections[-1], note=ALONE)
        groups.append((f"Results: {split}", sections))
    if not groups:
        raise InputError(
            f"{', '.join(names)} were evaluated on no common split: samseg evaluate RUN for each of them first"
        )
    histories = {name: read_history(folder) for name, folder in runs.items()}
    groups.append(("Training", curves(task, histories)))
    groups.append(("Settings that differ", [differences(configs)]))
    return write_page(Page(" · ".join(names), "; ".join(leads), groups), out)


def differences(configs: dict[str, RunConfig]) -> Table:
    """The settings that are not the same in all runs."""
    flats = {name: flat(asdict(config)) for name, config in configs.items()}
    keys = dict.fromkeys(key for found in flats.values() for key in found if key not in LEFT_OUT)
    rows = [[key, *(as_text(found.get(key)) for found in flats.values())] for key in keys]
    return Table("Settings", ["key", *flats], [row for row in rows if len(set(row[1:])) > 1])


def _figures(folder: Path) -> dict[str, Figures]:
    """A run's figures by split: those of its own evaluations, or else what is told of it."""
    return read_metrics(folder) | {split: load_split(folder, split)[0] for split in splits_of(folder)}


def _common(found: dict[str, Iterable[str]]) -> list[str]:
    """The splits that all runs have, in the order of the first run's."""
    first, *others = found.values()
    return [split for split in first if all(split in other for other in others)]


def _check_same(name: str, config: RunConfig, first: str, other: RunConfig) -> None:
    for key, a, b in (
        ("task", config.task, other.task),
        ("data.classes", list(config.data.classes), list(other.data.classes)),
    ):
        if a != b:
            raise InputError(f"{name} cannot be compared with {first}: its {key} is {as_text(a)}, not {as_text(b)}")


def _names(folders: list[Path]) -> list[str]:
    """Folders by their last names, or by all of the path where these are not all different."""
    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise InputError(f"a run is named twice: {', '.join(names)}")
    return names
