"""The configurations that come with samseg, by name."""

from pathlib import Path

from samseg.common.errors import ConfigError, did_you_mean
from samseg.runs.config.typed_yaml import YAML_SUFFIXES

PACKAGE = Path(__file__).parents[2]
FOLDER = next(path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir())  # installed; a clone


def shipped() -> dict[str, Path]:
    """Each shipped configuration's file by its name, in the order of the alphabet."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def shipped_config(name: str) -> Path:
    """The file of the shipped configuration called ``name``; ConfigError when there is none."""
    configs = shipped()
    if name not in configs:
        hint = did_you_mean(name, configs) or f"; shipped are {', '.join(configs)}, or give a YAML file"
        raise ConfigError(f"no such config: {name}{hint}")
    return configs[name]


def find_config(given: str | Path) -> Path:
    """A YAML file, as it is, or a shipped configuration by its bare name where there is no such file."""
    path = Path(given)
    bare = path.name == str(given) and path.suffix not in YAML_SUFFIXES
    if path.is_file() or not bare or (path.exists() and path.name not in shipped()):
        return path
    return shipped_config(path.name)
