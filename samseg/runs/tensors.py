"""Tensors by name in a safetensors file that carries the digest of its content."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from samseg.common.errors import WeightsError
from samseg.common.files import written_whole
from samseg.encoders.weights import not_finite
from samseg.models.pretrained import digest

CONFIG_ENTRY = "config"  # of the metadata: the run's config.yaml
SHA256 = "sha256"  # of the metadata: of tensors and all other metadata


def save_weights(state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name as safetensors with ``metadata``, whole or not at all, and their digest with them."""
    copies = {name: value.detach().cpu().clone() for name, value in state.items()}  # shared memory is refused
    metadata = {"format": "pt", **(metadata or {})}
    with written_whole(path) as temporary:
        mode = temporary.stat().st_mode
        safetensors.torch.save_file(copies, temporary, metadata | {SHA256: _digest(copies, metadata)})
        temporary.chmod(mode)  # safetensors makes its files private; a run folder is shared like any other


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata that `save_weights` wrote.

    WeightsError if the file is damaged, or if weights in it are not finite. Files of older versions carry no digest
    and are read without.
    """
    try:
        with safe_open(path, "pt") as file:
            state, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); copy or train it again") from None
    written = metadata.pop(SHA256, None)
    if written is not None and written != _digest(state, metadata):
        raise WeightsError(
            f"{path} is not what was written: its content does not have the sha256 it carries; copy or train it again"
        )
    if bad := not_finite(state):
        raise WeightsError(f"{path} holds NaN or infinity in {bad}: nothing can be predicted with it; train it again")
    return state, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata alone, unchecked; {} for what is no safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def _digest(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([digest(state), sorted(metadata.items())]).encode()).hexdigest()
