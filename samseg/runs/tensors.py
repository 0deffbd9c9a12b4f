"""Tensors by name in a safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from samseg.errors import WeightsError
from samseg.files import written_whole


def save_weights(state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name as safetensors with ``metadata``, whole or not at all."""
    copies = {name: value.detach().cpu().clone() for name, value in state.items()}  # shared memory is refused
    with written_whole(path) as temporary:
        mode = temporary.stat().st_mode
        safetensors.torch.save_file(copies, temporary, {"format": "pt", **(metadata or {})})
        temporary.chmod(mode)  # safetensors makes its files private; a run folder is shared like any other


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata that `save_weights` wrote; WeightsError if the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); copy or train it again") from None
