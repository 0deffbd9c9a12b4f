"""A run's configuration without the folders of the machine that it was made on, to be published."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from samseg.runs.config.schema import RunConfig


def portable_yaml(config: RunConfig) -> str:
    """``config`` as YAML: of each absolute path the last name alone, and no folder of the run or its cache."""
    config = replace(config, run_dir=None, train=replace(config.train, cache_dir=None))
    return OmegaConf.to_yaml(_without_folders(OmegaConf.to_container(OmegaConf.structured(config))))


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
