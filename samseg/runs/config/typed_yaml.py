"""YAML plus ``key=value`` into a tree of dataclasses; what does not fit is an error that names the key and the way out.

This file knows nothing of samseg's own settings: `samseg.runs.config.load` declares those.
"""

import dataclasses
import io
import re
import typing
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samseg.common.errors import ConfigError, first_line, nearest
from samseg.common.value_types import alternatives, fits, named

T = TypeVar("T")
YAML_SUFFIXES = (".yaml", ".yml")
defaults_of = cache(OmegaConf.structured)


def load(schema: type[T], source: str | Path | dict[str, Any], overrides: Sequence[str]) -> T:
    """Read a file, set each ``dotted.key=value`` of ``overrides`` (replacing the old value whole), fit to ``schema``.

    The values may be given instead of the file.
    Keys and types are checked more strictly than OmegaConf does by itself, which would read ``epochs: 2.5`` as 2 and
    ``resume: 1`` as true. Raises ConfigError.
    """
    if isinstance(source, dict):
        return _fitted(schema, deepcopy(source), overrides, "what was given")
    return _fitted(schema, parse_yaml(read_text(Path(source)), source), overrides, source)


def parse(schema: type[T], text: str, source: object, overrides: Sequence[str] = ()) -> T:
    """As `load`, of a YAML ``text`` whose values stand as they are: interpolation (``${...}``) in it: ConfigError."""
    values = parse_yaml(text, source)
    if (found := re.search(r"\$\{[^}]*\}?", text)) is not None:
        raise ConfigError(f"{source} holds {found[0]}, which is not resolved in what was written before: put the value")
    return _fitted(schema, values, overrides, source)


def _fitted(schema: type[T], values: dict[Any, Any], overrides: Sequence[str], path: object) -> T:
    for override in overrides:
        _set(schema, values, override)
    try:
        values = OmegaConf.to_container(OmegaConf.create(values), resolve=True, throw_on_missing=True)
        _check_section(schema, values, "", dotted_keys(schema))
        return OmegaConf.to_object(OmegaConf.merge(defaults_of(schema), values))
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{path}: {key}{first_line(error)}") from error


def read_text(path: Path) -> str:
    """What stands in a YAML file; ConfigError if it cannot be read or is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(_not_found(path)) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; give a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a YAML text file: {first_line(error)}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def parse_yaml(text: str, path: object) -> dict[Any, Any]:
    """The mapping in a YAML text ({} when empty); ConfigError, naming ``path`` and line, if it is none."""
    try:
        loaded = OmegaConf.load(io.StringIO(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: {error.problem or first_line(error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not a YAML text file: {first_line(error)}") from error
    except OSError:  # OmegaConf's word for a text that is one plain value
        raise ConfigError(f"{path} must hold settings as 'key: value'") from None
    values = OmegaConf.to_container(loaded)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold settings as 'key: value', got a list")
    return values


def dotted_keys(schema: type, prefix: str = "") -> list[str]:
    """All keys of a tree of dataclasses, as in ``train.loss.ce``; sections count as keys."""
    keys = []
    for name, kind in typing.get_type_hints(schema).items():
        keys.append(prefix + name)
        if dataclasses.is_dataclass(kind):
            keys += dotted_keys(kind, f"{prefix}{name}.")
    return keys


def _not_found(path: Path) -> str:
    if not path.parent.is_dir():
        return f"no such config: {path} (there is no folder {path.parent})"
    beside = sorted(p.name for p in path.parent.iterdir() if p.suffix in YAML_SUFFIXES)
    if close := nearest(path.name, beside):
        return f"no such config: {path}; did you mean {path.parent / close}?"
    return f"no such config: {path}; {path.parent} holds {', '.join(beside) or 'no YAML file'}"


def _set(schema: type, values: dict[Any, Any], override: str) -> None:
    """Set one ``dotted.key=value`` in place; the value is read as YAML, or as it stands where ``schema`` wants text."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"an override is written key=value, got {override!r}")
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        reason = getattr(error, "problem", None) or first_line(error)
        way_out = f'; a value with spaces wants quotes: "{key}={text} ..."' if text[:1] in ("{", "[") else ""
        raise ConfigError(f"{key}: cannot read {text!r} as a YAML value: {reason}{way_out}") from error
    *sections, name = key.split(".")
    kind: Any = schema
    for section in sections:
        kind = typing.get_type_hints(kind).get(section) if dataclasses.is_dataclass(kind) else None
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    kind = typing.get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    if kind and not fits(value, kind) and str in alternatives(kind) and isinstance(value, (bool, int, float)):
        value = text  # run_dir=2024_01 is a name, though YAML reads the number 202401
    values[name] = value


def _check_section(schema: type, values: dict[Any, Any], prefix: str, valid: list[str]) -> None:
    """Check keys and types of ``values`` against ``schema``; an empty section (YAML's null) becomes {} in place."""
    kinds = typing.get_type_hints(schema)
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in kinds:
            raise ConfigError(f"unknown key {key}{_did_you_mean(str(name), prefix, kinds, valid)}")
        kind = kinds[name]
        if dataclasses.is_dataclass(kind):
            if value is None:
                values[name] = value = {}
            if not isinstance(value, dict):
                raise ConfigError(f"{key} is a section ({', '.join(typing.get_type_hints(kind))}), got {value!r}")
            _check_section(kind, value, f"{key}.", valid)
        elif not fits(value, kind):
            quote = "; put it in quotes" if str in alternatives(kind) and not isinstance(value, (list, dict)) else ""
            raise ConfigError(f"{key} must be {named(kind)}, got {value!r}{quote}")


def _did_you_mean(name: str, prefix: str, siblings: Mapping[str, Any], valid: list[str]) -> str:
    """A key of a similar name in the same section, or else in another."""
    if close := nearest(name, list(siblings)):
        return f"; did you mean {prefix}{close}?"
    leaves = {key.rpartition(".")[2]: key for key in reversed(valid)}
    if close := nearest(name, list(leaves)):
        return f"; did you mean {leaves[close]}?"
    return f"; valid keys here are {', '.join(prefix + sibling for sibling in siblings)}"
