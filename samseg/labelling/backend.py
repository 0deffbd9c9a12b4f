"""What Label Studio asks of a machine-learning backend, and the answers of a run and of SAM."""

import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from samseg.common.errors import InputError
from samseg.data.raster import Raster
from samseg.inference.objects import label_studio
from samseg.inference.objects.files import ObjectFinder
from samseg.inference.objects.find import Objects
from samseg.labelling.images import LabelStudio, image_of
from samseg.labelling.interface import Interface, Prompts
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.predictor import SamPredictor

EMBEDDED = 8  # images that SAM keeps, the last that were clicked
SECONDS = 60  # of answering a request for predictions: Label Studio waits 100, and then takes none of them
SETUP_SECONDS = 1.5  # Label Studio waits 3


@dataclass(frozen=True)
class Clicked:
    """A SAM for clicks, and the picture (H, W, 3) uint8 of an image that it is shown."""

    sam: PromptableSam
    picture: Callable[[Raster], np.ndarray]


@dataclass
class Backend:
    """The answers, one request at a time; each raises InputError for what cannot be answered."""

    version: str  # of the model; Label Studio asks anew for tasks that have no predictions of it
    finder: ObjectFinder | None = None  # of the objects that are predicted; None: there are no predictions
    clicked: Clicked | None = None  # None: clicks are refused
    root: Path | None = None  # a folder of images
    server: str | None = None  # the Label Studio that is asked for images; None: the one that asks, if it is there
    key: str = ""  # an access token, which goes before the one that Label Studio sends
    _asking: dict[str, LabelStudio] = field(default_factory=dict)  # by project
    _busy: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._embedded = lru_cache(EMBEDDED)(self._embed)

    def setup(self, asked: dict[str, Any], at: str) -> dict[str, Any]:
        """Whether a project can be served; ``at``: the address, without port, that the request came from."""
        missing = self.check(asked.get("schema"))
        if missing:
            say(f"not labels of project {asked.get('project')}, and so not predicted: {', '.join(missing)}")
        server = self._server(asked, at)
        if server is not None and self._asking.get(str(asked.get("project"))) != server:
            if self.root is None:
                server.check(SETUP_SECONDS)
            self._asking[str(asked.get("project"))] = server
            say(f"project {asked.get('project')} of {server.url} is connected")
        return {"model_version": self.version}

    def predict(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Predictions for tasks, or SAM's answer to what was drawn on one."""
        interface, tasks = Interface.read(asked.get("label_config")), asked.get("tasks")
        if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
            raise InputError("the request has no list of tasks")
        context = (asked.get("params") or {}).get("context") or {}
        server = self._asking.get(str(asked.get("project")))
        with self._busy:
            if not context.get("result"):
                return {"results": self._predictions(tasks, interface, server)}
            try:
                answer = self._mask(tasks[0], context["result"], interface, server)
            except InputError as error:
                answer = self._refusal(error, tasks[0], interface)
                if answer is None:
                    raise
            return {"results": [answer]}

    def _predictions(self, tasks: list[dict], interface: Interface, server: LabelStudio | None) -> list:
        """A prediction for each task, or an empty list for none: one in a hundred may be broken, or too late."""
        if self.finder is None:
            return [[] for _ in tasks]
        answers, refused, end = [], None, time.monotonic() + SECONDS
        for task in tasks:
            answers.append([])
            if time.monotonic() > end:
                continue
            try:
                answers[-1] = self._prediction(task, interface, server)
            except InputError as error:
                refused = error
                answers[-1] = self._refusal(error, task, interface) or []
        if time.monotonic() > end:
            say(f"{len(tasks)} tasks are more than {SECONDS} seconds' work: ask again for those without predictions")
        if refused is not None and not any(answers):
            raise refused
        return answers

    def _prediction(self, task: dict, interface: Interface, server: LabelStudio | None) -> dict[str, Any]:
        started, names = time.monotonic(), self.finder.names
        image = image_of(int(task.get("id", 0)), _where(task, interface), self.root, server)
        self.finder.predictor.preprocessing.check_pixels(image.pixels, f"task {task.get('id')}")
        objects = self.finder(image)
        wanted = [number for number, label in enumerate(objects.classes, start=1) if names[label] in interface.labels]
        numbers = np.zeros(len(objects.classes) + 1, np.int32)
        numbers[wanted] = range(1, len(wanted) + 1)
        kept = [[values[number - 1] for number in wanted] for values in (objects.classes, objects.scores)]
        answer = self._regions(Objects(numbers[objects.map], *kept), names, interface, "object")
        say(f"task {task.get('id')}: {len(wanted)} objects, {time.monotonic() - started:.1f} s")
        return answer

    def _refusal(self, error: InputError, task: dict, interface: Interface) -> dict[str, Any] | None:
        """An error as a text under the image, of a version of its own; None where the interface has no place for it.

        Label Studio keeps to itself what a backend says otherwise.
        """
        if interface.messages is None:
            return None
        say(f"refused: task {task.get('id')}: {error}", file=sys.stderr)
        place = {"id": secrets.token_hex(4), "from_name": interface.messages, "to_name": interface.image}
        text = {"type": "textarea", "value": {"text": [f"samseg: {error}"]}}
        return {"model_version": f"{self.version}: refused", "score": 0.0, "result": [place | text]}

    def _mask(self, task: dict, drawn: list, interface: Interface, server: LabelStudio | None) -> dict[str, Any]:
        if self.clicked is None:
            raise InputError("clicks are SAM's to answer, and this backend has none: start it with --sam sam-vit_b")
        started = time.monotonic()
        predictor = self._embedded(int(task.get("id", 0)), _where(task, interface), server)
        prompts = Prompts.read(drawn, predictor.shapes[0])
        if prompts.label not in interface.labels:
            raise InputError(f"what was drawn has no label of {interface.control!r}; choose one of its labels first")
        masks, scores, _ = predictor.predict(
            point_coords=prompts.points if len(prompts.points) else None,
            point_labels=prompts.positive if len(prompts.points) else None,
            box=prompts.box,
            multimask_output=len(prompts.points) == 1 and prompts.box is None,
        )
        best = int(scores.argmax())
        if not masks[best].any():
            raise InputError("SAM sees no object there; click in its middle, or draw a box around it")
        objects = Objects(masks[best].astype(np.int32), [0], [float(scores[best])])
        say(f"task {task.get('id')}: {prompts.label}, {masks[best].sum()} pixels, {time.monotonic() - started:.1f} s")
        return self._regions(objects, [prompts.label], interface, secrets.token_hex(4))

    def _regions(self, objects: Objects, names: list[str], interface: Interface, prefix: str) -> dict[str, Any]:
        place = {"kind": interface.kind, "control": interface.control, "image": interface.image}
        return label_studio.prediction(objects, names, self.version, prefix=prefix, **place)

    def check(self, xml: object) -> list[str]:
        """The run's classes that are no labels of a project; InputError if none is, or its interface takes no masks."""
        interface = Interface.read(xml)
        if self.finder is None:
            return []
        names = [name for number, name in enumerate(self.finder.names) if number != self.finder.background]
        missing = [name for name in names if name not in interface.labels]
        if names and len(missing) == len(names):
            raise InputError(
                f"the run finds {', '.join(names)}, none of which is a label of {interface.control!r} in the project's "
                f"labelling interface ({', '.join(interface.labels) or 'it has none'}); call the labels as the run's "
                "classes"
            )
        return missing

    def _server(self, asked: dict[str, Any], at: str) -> LabelStudio | None:
        """The Label Studio of a request, with the token for its images; None: it does not say where it is."""
        key = self.key or str(asked.get("access_token") or "")
        if self.server is not None:
            return LabelStudio(self.server.rstrip("/"), key)
        url = str(asked.get("hostname") or "").rstrip("/")
        if not url:
            return None
        if not LabelStudio(url, key).is_at(at):
            raise InputError(
                f"Label Studio says that it is at {url}, but asks from {at}; name its address with --server, as in "
                f"--server http://{at}:8080"
            )
        return LabelStudio(url, key)

    def _embed(self, task: int, where: str, server: LabelStudio | None) -> SamPredictor:
        predictor = SamPredictor(self.clicked.sam)
        predictor.set_image(self.clicked.picture(image_of(task, where, self.root, server)))
        return predictor


def _where(task: dict, interface: Interface) -> str:
    """The address of a task's image."""
    where = (task.get("data") or {}).get(interface.data)
    if not isinstance(where, str) or not where:
        raise InputError(f"the task has no image under {interface.data!r}, which the labelling interface shows")
    return where


def say(line: str, file=None) -> None:
    """A line on the terminal, at once."""
    print(line, file=file, flush=True)
