"""Reports of promptable models: their figures, and how sure the score is."""

import numpy as np

from samseg.tasks.bootstrap import BOOTSTRAP, draws, interval, with_bounds
from samseg.tasks.sections import Section, Text
from samseg.tasks.task import Details, Figures, Reporter


class PromptReporter(Reporter):
    """Reads `samseg.tasks.promptable.metrics.PromptMetrics.details`."""

    def results(self, figures: Figures, details: Details) -> list[Section]:
        samples = self.score_draws(details)
        if samples is None:
            return super().results(figures, details)
        score = with_bounds(figures["iou"], interval(samples))
        note = f"IoU {score}, the mean over a box and clicks. {BOOTSTRAP}; {len(details['names'])} images."
        return [Text("Results", self.task.table(figures), note)]

    def score_draws(self, details: Details) -> np.ndarray | None:
        """None for a run of an earlier version, which kept no counts by image, and where no image has an object."""
        if "objects" not in details or not details["objects"].any():
            return None
        objects = details["objects"][np.argsort(details["names"])]
        total, number = (draws(len(objects)) @ objects).T
        with np.errstate(invalid="ignore"):
            return total / number  # NaN for a draw without an object
