"""A run by its name on the Hugging Face hub: hub:USER/NAME, or hub:USER/NAME@REVISION.

Two files are read of a repository, `config.yaml` and `best.safetensors`, and lie in the hub's own cache, where they are
found without a network.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError, RevisionNotFoundError

from samseg.common.errors import InputError
from samseg.common.hub import refusal, status_of
from samseg.runs.folder import CONFIG, WEIGHTS

PREFIX = "hub:"
FILES = (CONFIG, WEIGHTS)
PART = r"\w[\w.-]*"


class HubName(NamedTuple):
    """USER/NAME, and the branch, tag or commit (None: the latest)."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @property
    def name(self) -> str:
        """Without the user."""
        return self.repository.rpartition("/")[2]

    @property
    def address(self) -> str:
        """Of its page."""
        return f"{constants.ENDPOINT}/{self.repository}"


def hub_name(run: str | Path) -> HubName | None:
    """The repository that ``run`` names; None: it is a path. InputError for a malformed name."""
    text = run.as_posix() if isinstance(run, Path) else run
    if not text.startswith(PREFIX):
        return None
    repository, at, revision = text.removeprefix(PREFIX).partition("@")
    if not re.fullmatch(f"{PART}/{PART}", repository) or bool(at) != bool(revision):
        raise InputError(f"a run on the hub is named {PREFIX}USER/NAME or {PREFIX}USER/NAME@REVISION, got {text!r}")
    return HubName(repository, revision or None)


def local_run(run: str | Path, files: tuple[str, ...] = FILES) -> Path:
    """The folder of a run on the hub, with ``files`` of it; a run that is on this machine is where it is.

    The folder is the hub's cache: nothing may be written there. The hub is asked once a process, so that what is read
    belongs together. InputError, one line, for what cannot be had.
    """
    name = hub_name(run)
    return Path(run) if name is None else [_fetched(name, file) for file in files][0].parent


def outputs_folder(run: str | Path) -> Path:
    """Where what is made of a run is written by default: in its folder, beside its file, or in hub/USER/NAME."""
    name = hub_name(run)
    if name is not None:
        return Path("hub") / name.repository
    return Path(run).parent if Path(run).is_file() else Path(run)


@cache
def _fetched(name: HubName, file: str) -> Path:
    revision = name.revision
    if file != CONFIG:
        revision = _fetched(name, CONFIG).parent.name  # the same commit
    try:
        return Path(hf_hub_download(name.repository, file, revision=revision))
    except Exception as error:  # the hub's versions stand on different HTTP libraries, which raise errors of their own
        raise InputError(f"{name} {_trouble(name, file, error)}") from error


def _trouble(name: HubName, file: str, error: Exception) -> str:
    """The reason for a failure in words, and the way out."""
    if isinstance(error, HFValidationError):
        return f"is no name that the hub gives: {_line(error)}"
    if refused := refusal(error):
        return refused
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {name.revision}"
    if isinstance(error, LocalEntryNotFoundError):
        status = status_of(error.__cause__)
        why = f"{constants.ENDPOINT} answers {status}" if status else f"{constants.ENDPOINT} cannot be reached"
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else why
        return f"is not in the hub's cache ({constants.HF_HUB_CACHE}), and {why}: fetch it where there is a network"
    if isinstance(error, EntryNotFoundError):
        return f"is no run of samseg: it has no {file}"
    return f"cannot be fetched: {type(error).__name__}: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
