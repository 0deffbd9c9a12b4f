"""A run's configuration from YAML and ``key=value``: every value checked by its owner, what is left out filled in."""

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from samseg.common.errors import ConfigError, require
from samseg.common.files import write_bytes
from samseg.data.config import complete_data
from samseg.data.recognise import recognise
from samseg.encoders import ROWS, find_row
from samseg.features.store import DTYPES
from samseg.models.config import complete_model
from samseg.runs.config import typed_yaml
from samseg.runs.config.schema import RunConfig
from samseg.tasks import TASKS, Task, task_class

MOST = 1_000_000  # epochs, images of a batch ...: more is a slip, and some are no longer numbers to those who count
PRECISIONS = ("fp32", "bf16", "fp16")


def load_config(source: str | Path | dict[str, Any], overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML file with ``dotted.key=value`` overrides, check every value, fill in those that follow from others.

    A tree of values may be given instead of the file. Where it does not say ``data.source``, the source and its keys
    are those that are recognised under ``data.root``.

    Raises ConfigError, one line, for anything that is unknown, mistyped or out of range.
    """
    config = typed_yaml.load(RunConfig, source, overrides or [])
    recognise(config.data)
    return _completed(config)


def run_config(text: str, source: object, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration that a run or an export was written with, from its YAML ``text``; ``source`` is for errors.

    ``overrides``: as of `load_config`. Raises ConfigError as it does, and for ``${...}`` in the text: what others have
    made reads nothing of this machine.
    """
    return _completed(typed_yaml.parse(RunConfig, text, source, overrides))


def _completed(config: RunConfig) -> RunConfig:
    row, task = find_row(config.model.encoder), task_class(config.task)
    taught = [] if row is None else [row.image_size, *row.colours(config.model.weights)]
    complete_data(config.data, *taught, squash=row is not None and row.squashed and task.resizes_as_taught)
    complete_model(config.model)
    task.complete(config.data, config.model, _task_section(config))
    mine = task.section
    for name, other in TASKS.items():  # whose settings would do nothing: an error, not a silence
        section = other.section
        if section not in (None, mine) and attrgetter(section)(config) != attrgetter(section)(RunConfig()):
            raise ConfigError(f"{section} is for task: {name}, but task is {config.task}; leave one of them out")
    _check_size(config.data.image_size, config.model.encoder)
    _complete_train(config)
    _check_cache(config)
    return config


def task_of(config: RunConfig) -> Task:
    """The task of a configuration, with its sections."""
    return task_class(config.task)(config.data, config.model, _task_section(config))


def save_config(config: RunConfig, path: str | Path) -> None:
    """Write ``config``, all of it, as YAML that `load_config` reads back as an equal object."""
    write_bytes(path, to_yaml(config).encode())


def to_yaml(config: RunConfig) -> str:
    """All of ``config`` as YAML text."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def portable_yaml(config: RunConfig) -> str:
    """``config`` as YAML to be published: of each absolute path the last name alone, no folder of run and cache."""

    def without_folders(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_folders(item) for key, item in value.items()}
        if isinstance(value, list):
            return [without_folders(item) for item in value]
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    config = replace(config, run_dir=None, train=replace(config.train, cache_dir=None))
    return OmegaConf.to_yaml(without_folders(OmegaConf.to_container(OmegaConf.structured(config))))


def _task_section(config: RunConfig) -> Any:
    section = task_class(config.task).section
    return None if section is None else attrgetter(section)(config)


def _check_size(size: int, encoder: str) -> None:
    """A trunk says which sizes it takes; what other encoders need is asked of the model when it is built."""
    row = ROWS.get(encoder)
    multiple = row.outline.multiple if row else 1
    nearest = max(multiple, (size + multiple // 2) // multiple * multiple)
    if size != nearest:
        wanted = f"a multiple of {multiple}" if row else "at least 1"
        raise ConfigError(f"data.image_size must be {wanted}, got {size}; try {nearest}")


def _complete_train(config: RunConfig) -> None:
    train = config.train
    if isinstance(train.batch_size, str) and train.batch_size != "auto":
        raise ConfigError(f"train.batch_size must be an integer or auto, got {train.batch_size!r}")
    for key in ("epochs", "batch_size", "accumulate", "patience"):
        wanted = f"from 1 to {MOST:,}".replace(",", " ")
        require(f"train.{key}", getattr(train, key), wanted, lambda value: value == "auto" or 1 <= value <= MOST)
    require("train.max_minutes", train.max_minutes, "above 0", lambda value: 0 < value < math.inf)
    require("train.workers", train.workers, "from 0 to 1024", lambda value: 0 <= value <= 1024)
    require("seed", config.seed, "in 0 .. 2**32 - 1", lambda value: 0 <= value < 2**32)
    for key in ("lr", "encoder_lr", "pyramid_lr"):
        require(f"train.{key}", getattr(train, key), "above 0", lambda value: 0 < value < math.inf)
    require("train.weight_decay", train.weight_decay, "at least 0", lambda value: 0 <= value < math.inf)
    require("train.clip_norm", train.clip_norm, "above 0", lambda value: value > 0)
    require("train.warmup", train.warmup, "a share of all steps, from 0 to below 1", lambda value: 0 <= value < 1)
    require("train.layer_decay", train.layer_decay, "above 0 and at most 1", lambda value: 0 < value <= 1)
    if train.layer_decay is None:
        row = ROWS.get(config.model.encoder)
        learns = row is not None and config.model.weights is not None and not config.model.freeze_encoder
        train.layer_decay = row.layer_decay if learns else 1.0
    if train.layer_decay != 1 and config.model.freeze_encoder:
        raise ConfigError(
            f"train.layer_decay={train.layer_decay} does nothing while model.freeze_encoder is true: set one of them "
            "otherwise (train.layer_decay=1 is off)"
        )
    if train.gradient_checkpointing and config.model.freeze_encoder and config.model.adapter is None:
        raise ConfigError(
            "train.gradient_checkpointing does nothing while the encoder is frozen without an adapter: "
            "then no activations are kept; set it to false"
        )
    if train.precision not in PRECISIONS:
        raise ConfigError(f"train.precision must be one of {', '.join(PRECISIONS)}; got {train.precision!r}")
    if train.encoder_lr is None:
        train.encoder_lr = train.lr / 10 if config.model.weights is not None else train.lr
    if train.pyramid_lr is None:
        train.pyramid_lr = train.lr


def _check_cache(config: RunConfig) -> None:
    if config.train.cache_dtype not in DTYPES:
        raise ConfigError(f"train.cache_dtype must be one of {', '.join(DTYPES)}; got {config.train.cache_dtype!r}")
    if not config.train.cache_features:
        return
    for impossible, reason in (
        (
            not config.model.freeze_encoder,
            "model.freeze_encoder is false: the features change with every step; set it to true",
        ),
        (
            bool(config.data.augment),
            "data.augment makes every image new in every epoch: the features would never be used again; flips and "
            "quarter turns are cached with data.views=2, 4 or 8, other augmentation is not: set data.augment=[]",
        ),
        (
            not config.data.resize,
            "data.resize is false: crops at random places are never seen twice; set it to true, or cut the images "
            "into tiles beforehand",
        ),
    ):
        if impossible:
            raise ConfigError(f"train.cache_features cannot be used: {reason}, or set train.cache_features=false")
