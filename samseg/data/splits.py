"""Images drawn into train, val and test, where their folders do not say which is which."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from samseg.common.errors import ConfigError, InputError
from samseg.data.sources.places import SPLITS


def draw_splits(names: Iterable[str], shares: list[float], seed: int, group: str | None) -> dict[str, str]:
    """The split of each name, drawn by the name alone: it stays where it is when others are added.

    Names for which the pattern ``group`` captures the same are drawn together. A split that would go empty is given the
    one that falls nearest to it. InputError for names that the pattern does not match.
    """
    groups = {name: _group(name, group) for name in names}
    if unmatched := [name for name, captured in groups.items() if captured is None]:
        raise InputError(
            f"data.group={group} does not match {len(unmatched)} of {len(groups)} names, such as {unmatched[0]!r}; "
            "it must match the names of all images, from their beginning and without their endings"
        )
    bounds = np.cumsum([0, *shares])
    at = {one: _fraction(f"{seed} {one}") for one in sorted(set(groups.values()))}
    split = {one: int(np.searchsorted(bounds[1:-1], place, side="right")) for one, place in at.items()}
    for number, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        counts = Counter(split.values())
        spare = [one for one in at if counts[split[one]] > 1]
        if low < high and not counts[number] and spare:
            split[min(spare, key=lambda one: abs(at[one] - (low + high) / 2))] = number
    return {name: SPLITS[split[one]] for name, one in groups.items()}


def share_of(names: list[str], fraction: float, seed: int, group: str | None) -> list[str]:
    """That ``fraction`` of ``names``, at least one, in their order; a smaller one is a part of every larger.

    Names for which the pattern ``group`` captures the same come one after the other.
    """
    ranks = {name: [_fraction(f"{seed} {text}") for text in (_group(name, group) or name, name)] for name in names}
    count = max(1, round(fraction * len(names)))
    kept = set(sorted(names, key=ranks.get)[:count])
    return [name for name in names if name in kept]


def check_shares(shares: list[float] | None, group: str | None) -> None:
    """ConfigError for what ``data.split`` and ``data.group`` cannot be."""
    if shares is not None:
        sound = len(shares) in (2, 3) and min(shares) >= 0 and min(shares[:2]) > 0 and math.isclose(sum(shares), 1)
        if not sound:
            raise ConfigError(
                f"data.split is the shares of train, val and test, which add up to 1, as in [0.7, 0.15, 0.15], or of "
                f"train and val alone; got {shares}"
            )
    elif group is not None:
        raise ConfigError("data.group is for data.split, which draws the splits; give both or neither")
    try:
        captures = re.compile(group or "()").groups
    except re.error as error:
        raise ConfigError(f"data.group={group} is no regular expression: {error}") from error
    if not captures:
        raise ConfigError(
            f"data.group={group} captures nothing; put what a group shares in brackets, as in (patient\\d+)_"
        )


def _group(name: str, pattern: str | None) -> str | None:
    """What ``pattern`` captures of a name; the name itself where there is none; None where it does not match."""
    if pattern is None:
        return name
    match = re.match(pattern, name)
    return match and "\0".join(part or "" for part in match.groups())


def _fraction(text: str) -> float:
    """A number from 0 to below 1 that looks random and is always the same for a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
