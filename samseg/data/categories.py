"""Classes of labels whose categories have names: what `data.classes` means where `data.source` names objects."""

from typing import Any

from samseg.common.errors import ConfigError, InputError
from samseg.data.classes import IGNORE_INDEX, ClassMap
from samseg.data.sources.source import UNLABELLED

Name = str | None  # None: where there is no object


def parse_categories(classes: dict[str, Any], ignore: list[Any]) -> dict[Name, int]:
    """Compile ``data.classes`` and ``data.ignore`` into class indices by category; None stands for no object.

    A class is a category's name, null, or a list of these. Raises ConfigError.
    """
    if not 0 < len(classes) <= IGNORE_INDEX:
        raise ConfigError(
            f"data.classes names {len(classes)} classes; name 1 to {IGNORE_INDEX}, {{nothing: null, house: house}}"
        )
    entries = [(f"data.classes.{name}", entry, index) for index, (name, entry) in enumerate(classes.items())]
    indices: dict[Name, int] = {}
    owner: dict[Name, str] = {}
    for key, entry, index in [*entries, ("data.ignore", ignore, IGNORE_INDEX)]:
        for name in entry if isinstance(entry, list) else [entry]:
            if name is not None and not isinstance(name, str):
                raise ConfigError(
                    f"{key} must be a category's name, null (no object) or a list of these, which samseg check DATA "
                    f"lists; got {name!r}"
                )
            if name in indices:
                raise ConfigError(f"{key} and {owner[name]} both claim {_written(name)}; it belongs to one class")
            indices[name], owner[name] = index, key
    if None not in indices:
        raise ConfigError(
            "data.classes has no class for where there is no object: write it as null, {background: null, ...}, or put "
            "null in data.ignore"
        )
    return indices


def names_nothing(entry: Any) -> bool:
    """Whether an entry of ``data.classes`` is where there is no object."""
    return entry is None or isinstance(entry, list) and None in entry


def category_map(classes: dict[str, Any], ignore: list[Any], categories: dict[str, int], split: str) -> ClassMap:
    """The classes of a split whose ``categories`` have so many objects.

    Raises InputError for a category with objects that is neither a class nor ignored.
    """
    indices = parse_categories(classes, ignore)
    unlisted = {name: count for name, count in categories.items() if count and name not in indices}
    if unlisted:
        found = ", ".join(f"{name} ({count} object{'s' if count > 1 else ''})" for name, count in unlisted.items())
        known = ", ".join(_written(name) for name in indices)
        raise InputError(
            f"{split} has {'categories' if len(unlisted) > 1 else 'category'} {found}, not declared (declared: "
            f"{known}); add to data.classes, where a class may be a list, or to data.ignore"
        )
    numbers = {number: indices[name] for number, name in enumerate([None, *categories]) if name in indices}
    return ClassMap(list(classes), False, numbers | {UNLABELLED: IGNORE_INDEX})


def _written(name: Name) -> str:
    return "null" if name is None else name
