"""What is compared: a run for each encoder, method, share of the labels and repeat, under one budget."""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from samseg.common.errors import ConfigError, InputError, suggestion
from samseg.encoders import ROWS
from samseg.encoders.adapters.methods import METHODS
from samseg.models.build import check_adapter
from samseg.models.smp import network_class
from samseg.runs.config import typed_yaml
from samseg.runs.config.load import MOST, load_config
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import earlier_run

WAYS = ("frozen", *METHODS, "free")  # what of the encoder is trained
# Augmentations that `data.views` gives, too, which the feature cache keeps: the fewest views that hold them.
AS_VIEWS = {"HorizontalFlip": 2, "VerticalFlip": 4, "RandomRotate90": 8, "Transpose": 8, "D4": 8}


@dataclass(frozen=True)
class Candidate:
    """What is to be judged: an encoder, as it was named, what of it is trained, and on which share of the labels."""

    encoder: str
    method: str
    fraction: float = 1.0

    def __str__(self) -> str:
        return f"{self.encoder}, {self.method}" + (f", {self.fraction:.3g} of the labels" if self.fraction < 1 else "")

    def folder(self, repeat: int) -> str:
        """The name of a run's folder; that of the first repeat is the same whether there are more."""
        parts = [self.encoder, self.method]
        parts += [f"{self.fraction:g}"] if self.fraction < 1 else []
        parts += [str(repeat)] if repeat > 1 else []
        return re.sub(r"[^\w.+-]+", "-", "-".join(parts))


@dataclass(frozen=True)
class Trial:
    """One run of a candidate."""

    candidate: Candidate
    config: RunConfig

    @property
    def folder(self) -> Path:
        return Path(self.config.run_dir)


@dataclass(frozen=True)
class Plan:
    """The trials in their order, and what a reader should know of how they came about."""

    trials: list[Trial]
    notes: list[str]


def budget_settings(text: str) -> dict[str, Any]:
    """What a budget, "30m" (minutes) or "5e" (epochs), sets under ``train``; InputError for what is neither.

    Nothing else may end a run: no patience, and with minutes no number of epochs.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)m|(\d+)e", text)
    minutes, epochs = found.groups() if found else (None, None)
    if not float(minutes or epochs or 0):
        raise InputError(f"--budget is minutes or epochs of each run, as in 30m or 5e; got {text}")
    if minutes:
        return {"max_minutes": float(minutes), "epochs": MOST, "patience": None}
    return {"max_minutes": None, "epochs": int(epochs), "patience": None}


def plan(
    source: Path,
    overrides: Sequence[str],
    encoders: Sequence[str],
    methods: Sequence[str],
    *,
    budget: str,
    out: Path,
    fractions: Sequence[float] = (1.0,),
    repeats: int = 1,
) -> Plan:
    """The runs of the configuration ``source`` with each of the ``encoders`` and ``methods``, in folders under ``out``.

    An encoder may name its weights, as in "sam-vit_b:medsam.pth"; else it has those of the configuration where that
    names this encoder, and its own published ones, or none where the configuration has none. A method that an encoder
    does not take is left out, and noted. InputError for what cannot be, such as an encoder or method with which nothing
    is left, and a folder that holds a run of another configuration.
    """
    for method in methods:
        if method not in WAYS:
            raise InputError(f"--methods: no such method: {method}{suggestion(method, WAYS)}")
    if repeats < 1:
        raise InputError(f"--repeats must be at least 1, got {repeats}")
    for encoder in encoders:
        if "=" in encoder:
            raise InputError(f"--encoders: {encoder} is a setting: settings stand before the options")
    config = typed_yaml.load(RunConfig, source, overrides)
    for encoder in encoders:
        network_class(config.model.arch, encoder.partition(":")[0])
    tree, notes = asdict(config), []
    tree["train"] |= budget_settings(budget)
    views = _as_views(config.data.augment) if "frozen" in methods and config.data.resize is not False else None
    if views and config.data.augment:
        tree["data"] |= {"views": max(views, config.data.views), "augment": []}
        notes.append(f"data.augment is data.views={tree['data']['views']} for all, which the feature cache can keep")
    if config.model.weights is None and methods != ["free"]:
        notes.append("model.weights=null: what is frozen is random, and says nothing of an encoder")
    trials: list[Trial] = []
    refused: dict[str, str] = {}  # why, by encoder and by method
    order = (sorted(set(fractions), reverse=True), dict.fromkeys(encoders), dict.fromkeys(methods))
    for fraction, encoder, method in product(*order):
        candidate = Candidate(encoder, method, fraction)
        configs = [load_config(_values(tree, candidate, config, repeat, out)) for repeat in range(1, repeats + 1)]
        try:
            check_adapter(configs[0].model)
            trials += [Trial(candidate, one) for one in configs]
        except ConfigError as error:
            refused = {encoder: str(error), method: str(error)} | refused
            notes.append(f"left out: {method}, as {str(error).partition(';')[0]}")
    taken = {name for trial in trials for name in (trial.candidate.encoder, trial.candidate.method)}
    for name in refused.keys() - taken:
        raise InputError(f"nothing is left to train with {name}: {refused[name]}")
    for trial in trials:
        try:
            earlier_run(trial.config, trial.folder.name)
        except ConfigError as error:
            raise InputError(f"{str(error).rpartition('; resume')[0]}: name another --out") from None
    return Plan(trials, list(dict.fromkeys(notes)))


def _values(tree: dict[str, Any], candidate: Candidate, config: RunConfig, repeat: int, out: Path) -> dict[str, Any]:
    """The configuration of a run as a tree of values; what the candidate has no use for is left out."""
    values = deepcopy(tree)
    model, data, train = values["model"], values["data"], values["train"]
    encoder, _, weights = candidate.encoder.partition(":")
    if weights or encoder != config.model.encoder:
        own = None if config.model.weights is None else "pretrained"
        model |= {"encoder": encoder, "weights": weights or own}
    model |= {"freeze_encoder": candidate.method != "free", "adapter": None}
    if candidate.method in METHODS:
        asked = config.model.adapter or {}
        model["adapter"] = asked if asked.get("name") == candidate.method else {"name": candidate.method}
    data |= {"fraction": candidate.fraction * data["fraction"], "fraction_seed": data["fraction_seed"] + repeat - 1}
    values |= {"seed": values["seed"] + repeat - 1, "run_dir": str(out / candidate.folder(repeat))}
    train["resume"] = True
    trunk = ROWS[encoder].outline if encoder in ROWS else None
    frozen = candidate.method == "frozen"
    if candidate.method != "free" or trunk is None or not trunk.top_layer:
        train["layer_decay"] = 1.0
    if frozen or trunk is None or trunk.gradient_checkpointing is None:
        train["gradient_checkpointing"] = False
    # Fewer epochs than views: the encoder would see more for the cache than it does without.
    train["cache_features"] = bool(
        frozen and trunk and data["resize"] is not False and not data["augment"] and data["views"] <= train["epochs"]
    )
    return values


def _as_views(augment: list[Any]) -> int | None:
    """The number of `data.views` that hold what ``augment`` does; None where it does more."""
    if not all(isinstance(name, str) and name in AS_VIEWS for name in augment):
        return None
    return max((AS_VIEWS[name] for name in augment), default=1)
