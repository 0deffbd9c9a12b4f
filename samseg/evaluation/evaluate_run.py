"""A trained run's figures on a split of its data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.data import Dataset

from samseg.common.errors import InputError
from samseg.common.files import write_json
from samseg.data.workers import expect_workers
from samseg.inference.objects.files import ObjectFinder
from samseg.inference.objects.scores import PhotoScores
from samseg.inference.predictor import Predictor
from samseg.report.run import write_report
from samseg.runs.config.load import task_of
from samseg.runs.facts import EVALUATED, save_split
from samseg.runs.folder import copy_run, evaluation_file, objects_file, read_run_config
from samseg.tasks.evaluate import evaluate
from samseg.tasks.matching import OBJECTS, not_told_apart
from samseg.tasks.matching import table as object_table
from samseg.tasks.sections import Gallery
from samseg.tasks.task import Details, Figures

if TYPE_CHECKING:
    from samseg.maps.polygons.objects import ObjectScores


@dataclass(frozen=True)
class Evaluation:
    """The results of a run on a split, the figures also as a table for people; `write` saves them in the run.

    Attributes:
        options: those that `evaluate_run` was given, for the report to repeat.
        objects: what scored them, where they are.
    """

    folder: Path
    split: str
    figures: Figures
    details: Details
    examples: Gallery | None
    table: str
    options: dict[str, str]
    objects: "ObjectScores | PhotoScores | None" = None

    def write(self, place: Path | None = None) -> list[Path]:
        """Write the figures, the objects if they were scored, and the run's report; returns the files.

        ``place``: where the run's folder is the hub's, a folder of one's own that becomes a run like it. Not done by
        `evaluate_run`, so that figures are seen before the disk may refuse them.
        """
        place = self.folder if place is None else place
        if place != self.folder:
            copy_run(self.folder, place)
        files = [evaluation_file(place, self.split)]
        write_json({self.split: self.figures}, files[0])
        objects = objects_file(place, self.split)
        if self.objects is not None and self.objects.write(objects):
            files.append(objects)
        save_split(place, self.split, self.figures | {EVALUATED: self.options}, self.details, self.examples)
        return [*files, write_report(place)]


def evaluate_run(
    folder: Path,
    split: str,
    *,
    tta: str | None = None,
    root: str | None = None,
    precision: str | None = None,
    objects: str | None = None,
) -> Evaluation:
    """Evaluate a run's best weights on a split of its data, on a GPU if there is one.

    ``tta``: see `samseg.predict.tta`; the figures name it. ``root``: of other data, in place of the run's.
    ``precision``: see `samseg.inference.precision`. ``objects``: the way in which the objects of photos are found and
    scored, "components", "prompts", "amg" or "auto"; those of maps are scored by themselves. InputError for a folder
    that is no run and for data that are not as they should be.
    """
    config = read_run_config(folder)
    expect_workers(config.train.workers)
    if root is not None:
        config = replace(config, data=replace(config.data, root=root))
    task = task_of(config)
    if tta is not None:
        task.use_tta(tta)
    task.check((split,))
    predictor = Predictor.from_run(folder, precision=precision)
    dataset = task.dataset(split, train=False, seed=config.seed)
    if predictor.precision == "auto":
        predictor.decide(dataset[0]["image"])
    scores = _object_scores(dataset, predictor, objects)
    metrics = evaluate(
        predictor.model,
        dataset,
        task,
        predictor.device,
        autocast=predictor.autocast,
        workers=config.train.workers,
        title=split,
        also=scores and scores.count,
    )
    figures, details = metrics.compute() | ({"tta": tta} if tta else {}), metrics.details()
    table = task.table(figures)
    if scores is not None and (found := scores.compute()) is not None:
        figures[OBJECTS] = found
        table += f"\n{object_table(found)}"
    examples = task.reporter().examples(predictor.model, dataset, details)
    given = {"data": root, "tta": tta, "precision": precision, "objects": objects}
    options = {name: value for name, value in given.items() if value is not None}
    return Evaluation(folder, split, figures, details, examples, table, options, scores)


def _object_scores(dataset: Dataset, predictor: Predictor, way: str | None) -> "ObjectScores | PhotoScores | None":
    """The scorer of objects: for maps always, for photos in the ``way`` that is asked for."""
    source, data = getattr(dataset, "source", None), predictor.config.data
    if source is not None and source.objects:
        if way not in (None, "auto", "components"):
            raise InputError(
                f"the objects of data.source: {data.source} are connected areas; leave out --objects {way}"
            )
        if way is not None and all(source.instances(name) is None for name in source.names):
            raise not_told_apart(
                f"those of {source.split} are rasters: leave it out, or label with polygons, lines or points"
            )
        from samseg.maps.polygons.objects import ObjectScores  # what it needs is an extra, which maps need, too

        return ObjectScores(source, data.classes, predictor.preprocessing)
    if way is None:
        return None
    if source is None:
        raise not_told_apart("this run's task knows none: leave it out")
    return PhotoScores(ObjectFinder(predictor, None if way == "auto" else way), source)
