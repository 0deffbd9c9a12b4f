"""The one table of adapters, a row a method, and their arguments as the methods' own signatures declare them."""

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samseg.common.errors import ConfigError, did_you_mean
from samseg.common.value_types import alternatives, fits, named
from samseg.encoders.adapters.adapter import Adapter, InputAdapter, Limit
from samseg.encoders.adapters.bottleneck import Bottleneck
from samseg.encoders.adapters.conv_lora import ConvLoRA
from samseg.encoders.adapters.lora import LoRA
from samseg.encoders.adapters.sam_adapter import SamAdapter

METHODS: dict[str, type[Adapter] | type[InputAdapter]] = {
    "lora": LoRA,
    "conv_lora": ConvLoRA,
    "adapter": Bottleneck,
    "sam_adapter": SamAdapter,
}


@dataclass(frozen=True)
class Argument:
    """An argument of a method: its type, the limits of its values, and its value if it is left out."""

    kind: Any
    limits: tuple[Limit, ...]
    default: Any


# Of every method: indices of the transformer blocks that are adapted; None: all.
BLOCKS = Argument(
    list[int] | None,
    (Limit("indices of blocks from 0, or null for all", lambda blocks: bool(blocks) and min(blocks) >= 0),),
    None,
)


def arguments_of(name: str) -> dict[str, Argument]:
    """The arguments of a method by name: `blocks`, then what it declares itself."""
    kinds = typing.get_type_hints(METHODS[name].__init__)
    annotations = typing.get_type_hints(METHODS[name].__init__, include_extras=True)
    found = {"blocks": BLOCKS}
    for parameter in inspect.signature(METHODS[name]).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            alike = alternatives(annotations[parameter.name])
            limits = tuple(limit for one in alike for limit in getattr(one, "__metadata__", ()))
            found[parameter.name] = Argument(kinds[parameter.name], limits, parameter.default)
    return found


def described() -> str:
    """A line a method: what a configuration says under `model.adapter` with its defaults, and its paper."""
    lines = []
    for name, method in METHODS.items():
        arguments = {key: argument.default for key, argument in arguments_of(name).items()}
        defaults = ", ".join(f"{key}: {'null' if value is None else value}" for key, value in arguments.items())
        words = " ".join(inspect.getdoc(inspect.getmodule(method)).partition("\n\n")[0].split())
        lines.append(f"{{name: {name}, {defaults}}}  {words}")
    return "\n".join(lines)


def complete_arguments(name: str, given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """All arguments of a method: those ``given``, checked, and the defaults of the others, as of those that are None.

    Raises ConfigError, naming ``prefix`` and argument, for what is unknown, of a wrong type or out of range.
    """
    known = arguments_of(name)
    for key in given:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"; it takes {', '.join(known)}"
            raise ConfigError(f"{prefix}{key} is no argument of {name}{hint}")
    complete = {}
    for key, argument in known.items():
        value = given.get(key)
        if value is None:
            complete[key] = argument.default
            continue
        if not fits(value, argument.kind):
            raise ConfigError(f"{prefix}{key} must be {named(argument.kind)}, got {value!r}")
        for limit in argument.limits:
            if not limit.holds(value):
                raise ConfigError(f"{prefix}{key} must be {limit.wanted}, got {value}")
        complete[key] = float(value) if float in alternatives(argument.kind) else value
    return complete


def complete_adapter(settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a configuration says under `model.adapter`, checked, with every argument of its method; None for none.

    Keys of other methods may be there if they are null. ``decoder: true`` beside LoRA's arguments asks for LoRA in
    SAM's mask decoder, too. Raises ConfigError.
    """
    every = {"name"}.union(*(arguments_of(name) for name in METHODS))
    given = {key: value for key, value in (settings or {}).items() if value is not None or key not in every}
    name = given.pop("name", None)
    decoder = given.pop("decoder", None)
    if name is None and not given and not decoder:
        return None
    if name is None:
        raise ConfigError(
            f"model.adapter.{min(given, default='decoder')} needs a method: set model.adapter.name to "
            f"{', '.join(METHODS)}, or model.adapter to null for none"
        )
    complete = {"name": name} | complete_arguments(known_method(name, "model.adapter.name"), given, "model.adapter.")
    if decoder is None:
        return complete
    if not isinstance(decoder, bool) or (decoder and name != "lora"):
        raise ConfigError(f"model.adapter.decoder must be true or false, and is for name: lora; got {decoder!r}")
    return complete | ({"decoder": True} if decoder else {})


def known_method(name: Any, key: str = "the name of an adapter") -> str:
    """Return ``name``; ConfigError where there is no such method."""
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(f"{key} must be one of {', '.join(METHODS)}, got {name!r}{did_you_mean(str(name), METHODS)}")
    return name
