"""The user's names for a mask's values, or for labels' categories, compiled into a fast map to class indices."""

import re
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any

import numpy as np

from samseg.common.errors import ConfigError, InputError
from samseg.data.sources.source import UNLABELLED

IGNORE_INDEX = 255  # class index of pixels that count neither in loss nor in metrics; so 255 classes at most
UNKNOWN = -1
LISTED = 5  # so many unknown values are named in an error
ROWS = 256  # looked up at a time: colours are packed into 4 bytes and searched in 8
SMOOTHED = 16  # more unknown values than this come from a filter or from JPEG rather than from a labeller


class ClassMap:
    """Raw mask values -> class indices.

    Attributes:
        names: the classes in the order of their indices.
        colours: whether the masks hold colours (H, W, 3) rather than numbers (H, W).
    """

    def __init__(self, names: list[str], colours: bool, indices: dict[int, int]):
        """``indices``: class index by mask value, or by 0xRRGGBB when ``colours``."""
        self.names, self.colours = names, colours
        self._known = np.array(sorted(indices), dtype=np.int32)
        self._index = np.array([indices[value] for value in self._known], dtype=np.int16)
        if not colours:
            self._table = np.full(2**16, UNKNOWN, dtype=np.int16)
            self._table[self._known] = self._index

    def __call__(self, mask: np.ndarray, source: Any) -> np.ndarray:
        """``mask``, (H, W) numbers or (H, W, 3) colours, as class indices (H, W) uint8, `IGNORE_INDEX` where ignored.

        Numbers of any dtype are taken if they are whole and from 0 to 65535. Raises InputError, naming the file
        ``source``, for others and for values that are not declared.
        """
        index = self.indices(mask, source)
        if index.min(initial=0) == UNKNOWN:
            raise InputError(f"{source}: {self._describe_unknown(mask, index)}")
        return index.astype(np.uint8)

    def indices(self, mask: np.ndarray, source: Any) -> np.ndarray:
        """As a call, but int16 with `UNKNOWN` where a value is not declared; InputError for what cannot be a mask."""
        if self.colours:
            return self._look_up_colours(mask)
        if mask.ndim == 3:
            raise InputError(
                f"{source} is a colour mask, but data.classes declares numbers; declare colours ([r, g, b] or "
                '"#rrggbb"), or save the mask with one channel of class values'
            )
        return self._table.take(_whole_numbers(mask, source))

    def _look_up_colours(self, mask: np.ndarray) -> np.ndarray:
        index = np.empty(mask.shape[:2], dtype=np.int16)
        for top in range(0, len(mask), ROWS):
            packed = packed_colours(mask[top : top + ROWS])
            place = np.searchsorted(self._known, packed).clip(max=len(self._known) - 1)
            index[top : top + ROWS] = np.where(self._known[place] == packed, self._index[place], UNKNOWN)
        return index

    def _describe_unknown(self, mask: np.ndarray, index: np.ndarray) -> str:
        values = packed_colours(mask[index == UNKNOWN]) if self.colours else mask[index == UNKNOWN].astype(np.int64)
        values, pixels = np.unique(values, return_counts=True)
        order = np.argsort(-pixels, kind="stable")[:LISTED]
        found = ", ".join(f"{self._written(values[i])} ({pixels[i]} pixels)" for i in order)
        more = f" and {len(values) - LISTED} more" if len(values) > LISTED else ""
        smoothed = "; so many come from smoothing or JPEG" if len(values) > SMOOTHED else ""
        what = ("colour" if self.colours else "value") + ("s" if len(values) > 1 else "")
        declared = [self._written(value) for value in self._known]
        declared = ", ".join(declared if len(declared) <= 20 else [*declared[:20], "..."])
        return (
            f"mask {what} {found}{more} not declared (declared: {declared}){smoothed}; add to data.classes or "
            "data.ignore, or correct the mask"
        )

    def _written(self, value: int) -> str:
        return str([int(value) >> 16, int(value) >> 8 & 255, int(value) & 255]) if self.colours else str(value)


def _whole_numbers(mask: np.ndarray, source: Any) -> np.ndarray:
    if mask.dtype in (np.uint8, np.uint16):
        return mask
    if not ((mask >= 0) & (mask < 2**16) & (mask == np.floor(mask))).all():  # false for NaN as well
        raise InputError(
            f"{source} holds values that are not whole numbers from 0 to 65535; save the mask as 8-bit PNG"
        )
    return mask.astype(np.uint16)


def parse_classes(classes: dict[str, Any], ignore: list[Any]) -> ClassMap:
    """Compile ``data.classes`` and ``data.ignore``.

    A class is a mask value, a list of values, a colour ([r, g, b] or "#rrggbb") or a list of colours. Three numbers in
    a list can be read both ways: they are a colour if everything declared can be one. Raises ConfigError.
    """
    if not classes:
        raise ConfigError("data.classes is empty; name each class and its mask value: {background: 0, building: 255}")
    colours = all(_as_colours(entry) is not None for entry in [*classes.values(), *([ignore] if ignore else [])])
    return ClassMap(list(classes), colours, _indices(classes, ignore, partial(_values, colours=colours)))


def parse_categories(classes: dict[str, Any], ignore: list[Any]) -> dict[str | None, int]:
    """Compile ``data.classes`` and ``data.ignore`` into class indices by category; None stands for no object.

    A class is a category's name, null, or a list of these. Raises ConfigError.
    """
    if not classes:
        raise ConfigError("data.classes is empty; name each class and its category: {nothing: null, house: house}")
    indices = _indices(classes, ignore, _names)
    if None not in indices:
        raise ConfigError(
            "data.classes has no class for where there is no object: write it as null, {background: null, ...}, or put "
            "null in data.ignore"
        )
    return indices


def category_map(classes: dict[str, Any], ignore: list[Any], categories: dict[str, int], split: str) -> ClassMap:
    """The classes of a split whose ``categories`` have so many objects.

    Raises InputError for a category with objects that is neither a class nor ignored.
    """
    indices = parse_categories(classes, ignore)
    unlisted = {name: count for name, count in categories.items() if count and name not in indices}
    if unlisted:
        found = ", ".join(f"{name} ({count} object{'s' if count > 1 else ''})" for name, count in unlisted.items())
        raise InputError(
            f"{split} has {'categories' if len(unlisted) > 1 else 'category'} {found}, not declared (declared: "
            f"{', '.join('null' if name is None else name for name in indices)}); add to data.classes, where a class "
            "may be a list, or to data.ignore"
        )
    numbers = {number: indices[name] for number, name in enumerate([None, *categories]) if name in indices}
    return ClassMap(list(classes), False, numbers | {UNLABELLED: IGNORE_INDEX})


def names_nothing(entry: Any) -> bool:
    """Whether an entry of ``data.classes`` is where there is no object."""
    return entry is None or isinstance(entry, list) and None in entry


def _indices(
    classes: dict[str, Any], ignore: list[Any], read: Callable[[str, Any], Iterator[tuple[Hashable, str]]]
) -> dict[Any, int]:
    """The class index of each value of the entries of ``data.classes`` and ``data.ignore``; ConfigError.

    ``read``: (key, entry) -> the entry's values, each with the way it is written.
    """
    if len(classes) > IGNORE_INDEX:
        raise ConfigError(f"data.classes names {len(classes)} classes; at most {IGNORE_INDEX} are possible")
    if any(not name.strip() for name in classes):
        raise ConfigError("data.classes: a class has an empty name")
    entries = [(f"data.classes.{name}", entry, index) for index, (name, entry) in enumerate(classes.items())]
    if ignore:
        entries.append(("data.ignore", ignore, IGNORE_INDEX))
    indices: dict[Any, int] = {}
    owner: dict[Any, str] = {}
    for key, entry, index in entries:
        for value, written in read(key, entry):
            if value in owner:
                where = "twice" if owner[value] == key else f"as {owner[value]} does"
                raise ConfigError(f"{key} claims {written} {where}; it belongs to one class")
            indices[value], owner[value] = index, key
    return indices


def ignored_values(ignore: list[Any], colours: bool) -> set[int]:
    """The mask values of ``data.ignore``, or its colours as 0xRRGGBB. Raises ConfigError."""
    return {value for value, _ in _values("data.ignore", ignore, colours)} if ignore else set()


def _values(key: str, entry: Any, colours: bool) -> Iterator[tuple[int, str]]:
    """The mask values (or packed colours) of one entry, each with the way it is written."""
    found = _as_colours(entry) if colours else _as_numbers(entry)
    if found is None:
        if _as_colours(entry) is not None:
            raise ConfigError(
                f"{key} is a colour, {entry!r}, but some class or data.ignore is none; declare all as colours or none"
            )
        raise ConfigError(
            f'{key} must be a mask value from 0 to 65535, a colour ([r, g, b] or "#rrggbb" in quotes), or a list of '
            f"either; got {entry!r}"
        )
    for value in found:
        yield value, f"mask value #{value:06x}" if colours else f"mask value {value}"


def _names(key: str, entry: Any) -> Iterator[tuple[str | None, str]]:
    """The categories of one entry, each with the way it is written."""
    for name in entry if isinstance(entry, list) else [entry]:
        if name is not None and not isinstance(name, str):
            raise ConfigError(
                f"{key} must be a category's name, null (no object) or a list of these, which samseg check DATA lists; "
                f"got {name!r}"
            )
        yield name, "null" if name is None else name


def _as_numbers(entry: Any) -> list[int] | None:
    values = entry if isinstance(entry, list) else [entry]
    fit = values and all(_is_int(value) and 0 <= value < 2**16 for value in values)
    return values if fit else None


def _as_colours(entry: Any) -> list[int] | None:
    """One colour, or a list of them, packed as 0xRRGGBB; None if it is something else."""
    one = _as_colour(entry)
    if one is not None:
        return [one]
    if not isinstance(entry, list) or not entry:
        return None
    several = [_as_colour(item) for item in entry]
    return None if None in several else several


def _as_colour(entry: Any) -> int | None:
    if isinstance(entry, str) and re.fullmatch("#[0-9a-fA-F]{6}", entry):
        return int(entry[1:], 16)
    if isinstance(entry, list) and len(entry) == 3 and all(_is_int(part) and 0 <= part <= 255 for part in entry):
        return entry[0] << 16 | entry[1] << 8 | entry[2]
    return None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def packed_colours(colours: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32, 0xRRGGBB."""
    return colours[..., 0] * np.int32(65536) + colours[..., 1] * np.int32(256) + colours[..., 2]
