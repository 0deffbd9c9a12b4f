"""Publish a run on the Hugging Face hub: its configuration and weights, its figures and a card."""

import json
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from samseg.common.errors import InputError
from samseg.common.files import write_json
from samseg.common.hub import LOGIN, status_of
from samseg.runs.config.load import portable_yaml
from samseg.runs.config.schema import RunConfig
from samseg.runs.folder import CONFIG, CURVES, HISTORY, METRICS, WEIGHTS, evaluation_file, read_run_config
from samseg.runs.hub.card import card
from samseg.runs.hub.pull import PREFIX, HubName, hub_name
from samseg.runs.load import load_run
from samseg.runs.tensors import CONFIG_ENTRY, read_weights, save_weights

CARD = "README.md"


def push(run: Path, repository: str, private: bool = False, licence: str | None = None) -> HubName:
    """Publish a run as ``repository`` (USER/NAME), which is made if it is not there; returns its name.

    In one commit go the best weights, the configuration without the folders of this machine, the figures, the history
    and a model card; no state, no images of the data, no report. ``licence``: an identifier of the hub's, such as
    apache-2.0.

    Raises InputError, one line, for what is no run, and for what the hub refuses.
    """
    try:
        name = hub_name(PREFIX + repository.removeprefix(PREFIX))
    except InputError:
        name = None
    if name is None or name.revision is not None:
        raise InputError(f"a run is published under USER/NAME, got {repository!r}")
    with tempfile.TemporaryDirectory(prefix="samseg-push-") as folder:
        collect(run, Path(folder), name.repository, licence)
        try:
            api = HfApi()
            api.create_repo(name.repository, exist_ok=True, **({"private": True} if private else {}))
            api.upload_folder(repo_id=name.repository, folder_path=folder, commit_message="A run of samseg")
        except Exception as error:  # the hub's versions raise errors of different HTTP libraries
            raise InputError(f"{run} cannot be published as {name.repository}: {_trouble(error)}") from error
    return name


def collect(run: Path, folder: Path, repository: str, licence: str | None = None) -> None:
    """Write all that is published of a run into ``folder``."""
    config = read_run_config(run)
    if not (run / WEIGHTS).is_file():
        raise InputError(f"{run} has no {WEIGHTS}: no epoch of this run was finished; go on with train.resume=true")
    text = portable_yaml(config)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    base = _save_weights(run, config, text, folder / WEIGHTS)
    figures = {}
    for file in sorted([run / METRICS, *run.glob(evaluation_file(run, "*").name)]):
        if file.is_file():
            figures |= json.loads(file.read_text(encoding="utf-8"))
    write_json(figures, folder / METRICS)
    for name in (HISTORY, CURVES):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    (folder / CARD).write_text(card(run, config, figures, base, repository, licence), encoding="utf-8")


def _save_weights(run: Path, config: RunConfig, text: str, file: Path) -> dict[str, str]:
    """Write the best weights with the configuration ``text``; returns what they say of their base, if they need it.

    A base that is a file of this machine goes into them, for nobody else has it.
    """
    state, metadata = read_weights(run / WEIGHTS)
    if config.model.weights is not None and Path(config.model.weights).is_absolute():
        state, metadata = load_run(run)[0].state_dict(), {}
    save_weights(state, file, metadata | {CONFIG_ENTRY: text})
    return {key: value for key, value in metadata.items() if key != CONFIG_ENTRY}


def _trouble(error: Exception) -> str:
    status = status_of(error)
    if status == 401 or type(error).__name__ == "LocalTokenNotFoundError":
        return f"the hub wants to know who you are (401): {LOGIN}"
    if status == 403:
        return f"the token may not write there (403): {LOGIN} with a token that may"
    if isinstance(error, (HFValidationError, HfHubHTTPError)):
        return " ".join(str(error).split())
    return f"{constants.ENDPOINT} cannot be reached ({type(error).__name__}); the same command tries again"
