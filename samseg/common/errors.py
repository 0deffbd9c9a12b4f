"""Exceptions that are no bugs: wrong input, which the user can mend, and a run that was told to stop."""

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

LETTERS = 300  # of another library's words in a line of ours
READER = re.compile(r"\ACaught \w+ in .*^[\w.]+: ", re.DOTALL | re.MULTILINE)  # in the words of torch's DataLoader


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a setting, a checkpoint.

    The message is one line that stands alone: which file or key, what was found, what was expected, how to mend it.
    The command-line tools print it and exit with code 2; library users catch it as a ValueError.
    """

    def __init__(self, message: str = ""):
        # A process that reads images hands its error on at the end of a traceback's text.
        super().__init__(READER.sub("", message).rstrip())


def first_line(error: Exception) -> str:
    """The first line of what an error says, shortened for a line of ours; its type where it says nothing."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= LETTERS else f"{text[:LETTERS]} ..."


class ConfigError(InputError):
    """A setting is unknown, of the wrong type, or has a value that is not allowed."""


class WeightsError(InputError):
    """A checkpoint cannot be found, read, or does not fit the encoder."""


class Terminated(Exception):
    """The run was asked to stop (SIGTERM), has saved its state, and can be resumed. The tools exit with code 143."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that was probably meant, ignoring case; None if none is near."""
    by_lower = {known.lower(): known for known in reversed(list(names))}
    found = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """ "; did you mean 'x'?" where one of ``names`` is near, else nothing: to be put behind what is wrong."""
    close = nearest(str(name), names)
    return f"; did you mean '{close}'?" if close else ""


def suggestion(name: str, names: Iterable[str]) -> str:
    """`did_you_mean`, or where none is near all of the ``names``."""
    return did_you_mean(name, names) or f"; there are {', '.join(names)}"


def require(key: str, value: Any, wanted: str, holds: Callable[[Any], bool]) -> None:
    """Raise ConfigError, naming the ``key`` and what is ``wanted``, unless the ``value`` is None or ``holds``."""
    if value is not None and not holds(value):
        raise ConfigError(f"{key} must be {wanted}, got {value}")
