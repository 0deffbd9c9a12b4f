"""Python's annotations as the types of settings: what fits ``int | None``, and how a message calls it."""

import types
import typing
from typing import Any


def alternatives(kind: Any) -> tuple[Any, ...]:
    """``int | None`` -> (int, NoneType); anything else stands alone."""
    return typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)


def fits(value: Any, kind: Any) -> bool:
    """Whether ``value`` is of the type ``kind``; an integer is a number, too, but true is neither."""
    return any(_fits_one(value, one) for one in alternatives(kind))


def named(kind: Any) -> str:
    """The type in a user's words: "an integer or null"."""
    return " or ".join(_named_one(one) for one in alternatives(kind))


def _fits_one(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    if not isinstance(value, origin):
        return False
    if origin is list and args:
        return all(fits(item, args[0]) for item in value)
    if origin is dict and args:
        return all(fits(key, args[0]) and fits(item, args[1]) for key, item in value.items())
    return True


def _named_one(kind: Any) -> str:
    lists = {list[float]: "a list of numbers", list[int]: "a list of integers"}
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    containers = {list: "a list", dict: "a mapping of names to values (a name like 1 or yes needs quotes)"}
    return lists.get(kind) or names.get(kind) or containers[typing.get_origin(kind)]
