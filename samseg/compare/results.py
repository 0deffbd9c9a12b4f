"""What came out of a comparison: scores with how sure they are, what they cost, and what follows."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from samseg.compare.plan import Candidate, Trial
from samseg.compare.trial import costs_of, is_done
from samseg.runs.facts import load_split
from samseg.tasks import Task
from samseg.tasks.bootstrap import interval, with_bounds

CHEAPER = 0.8  # of another's time and less is worth a word; from there to its inverse two cost the same


@dataclass(frozen=True)
class Costs:
    """What a candidate takes; of several repeats the mean.

    Attributes:
        images: that were learnt from.
        epochs: that the budget was enough for.
        epoch_s: seconds an epoch, validation included.
        memory_gb: the most memory of its process in training; None where the system does not tell.
        parameters: that were trained.
        megapixel_s: seconds a megapixel of image in prediction; None for models that wait for prompts.
    """

    images: float
    epochs: float
    epoch_s: float
    memory_gb: float | None
    parameters: float
    megapixel_s: float | None


@dataclass(frozen=True)
class Result:
    """A candidate that was trained; figures are the means over its repeats.

    Attributes:
        runs: their folders, the best first.
        score: of the validation split.
        draws: the score in each of the bootstrap's draws of validation images, the same draws for all; None for a task
            that keeps no counts by image.
    """

    candidate: Candidate
    runs: list[Path]
    score: float
    draws: np.ndarray | None
    costs: Costs

    def interval(self) -> tuple[float, float] | None:
        return None if self.draws is None else interval(self.draws)

    def change(self, other: "Result") -> tuple[float, float, float] | None:
        """How much its score is above ``other``'s, and the bounds of that, draw by draw."""
        if self.draws is None or other.draws is None:
            return None
        return (self.score - other.score, *interval(self.draws - other.draws))


def results_of(trials: Sequence[Trial], task: Task) -> list[Result]:
    """The candidates of which at least one run is done, the best first, those with fewer labels last."""
    done: dict[Candidate, list[Path]] = {}
    for trial in trials:
        if is_done(trial):
            done.setdefault(trial.candidate, []).append(trial.folder)
    sign = 1 if task.higher_is_better else -1
    found = [_result(candidate, folders, task, sign) for candidate, folders in done.items()]
    return sorted(found, key=lambda result: (-result.candidate.fraction, -sign * result.score))


def _result(candidate: Candidate, folders: list[Path], task: Task, sign: int) -> Result:
    scores, draws = [], []
    for folder in folders:
        figures, details, _ = load_split(folder, "val")
        score = figures[task.score]
        scores.append(np.nan if score is None else score)
        draws.append(task.reporter().score_draws(details))
    order = sorted(range(len(folders)), key=lambda i: -sign * scores[i])
    known, costs = all(one is not None for one in draws), [costs_of(folder) for folder in folders]
    return Result(
        candidate,
        [folders[i] for i in order],
        float(np.mean(scores)),
        np.mean(draws, axis=0) if known else None,
        Costs(**{field.name: _mean([one[field.name] for one in costs]) for field in fields(Costs)}),
    )


def _mean(values: list[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def as_good(result: Result, best: Result, task: Task) -> bool:
    """Whether the choice of validation images explains that ``result`` is behind the ``best``."""
    change = result.change(best)
    if change is None:
        return False
    _, low, high = change
    return high >= 0 if task.higher_is_better else low <= 0


def verdict(results: Sequence[Result], task: Task) -> str:
    """A sentence or two to act on: which is best, and which is not clearly worse at a fraction of its cost."""
    fraction = results[0].candidate.fraction
    best, *others = [result for result in results if result.candidate.fraction == fraction]
    text = f"Best: {best.candidate}, with {task.score_name} {with_bounds(best.score, best.interval())} on val."
    if not others:
        return text
    if best.draws is None:
        return f"{text} How sure the differences are is not known for this task."
    near = [result for result in others if as_good(result, best, task)]
    if not near:
        return f"{text} {'The other is' if len(others) == 1 else 'All others are'} clearly worse."
    cheaper = [result for result in near if _savings(result, best)]
    if cheaper:
        choice = min(cheaper, key=lambda result: _cost(result, best))
        change, low, high = choice.change(best)
        return (
            f"{text} Not clearly worse ({with_bounds(change, (low, high), '+.3f')}): {choice.candidate}, which takes "
            f"{' and '.join(_savings(choice, best))}."
        )
    names = "; ".join(str(result.candidate) for result in near)
    return f"{text} Not clearly worse, but no cheaper: {names}."


def _ratios(result: Result, best: Result) -> tuple[float, float]:
    """The times of a prediction and of an epoch, as shares of the best's."""
    ours, theirs = result.costs, best.costs
    known = ours.megapixel_s and theirs.megapixel_s
    return ours.megapixel_s / theirs.megapixel_s if known else 1.0, ours.epoch_s / max(theirs.epoch_s, 1e-9)


def _cost(result: Result, best: Result) -> tuple[float, float]:
    """The key by which the cheapest is chosen: prediction, which goes on for ever; where that is alike, training."""
    predict, train = _ratios(result, best)
    return (min(predict, 1.0) if predict <= CHEAPER else 1.0, train)


def _savings(result: Result, best: Result) -> list[str]:
    """What it takes less of than the best, in words; nothing where it takes clearly more of the other."""
    predict, train = _ratios(result, best)
    if predict > 1 / CHEAPER:
        return []
    words = []
    if predict <= CHEAPER:
        words.append(f"{100 * predict:.2g} % of its time in prediction")
    if train <= CHEAPER:
        words.append(f"{100 * train:.2g} % of its seconds an epoch")
    return words
