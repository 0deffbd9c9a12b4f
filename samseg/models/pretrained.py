"""The base of a trained model: the pretrained tensors that training leaves as they are. Checkpoints only name it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samseg.common.errors import WeightsError
from samseg.models.trainable import pretrained_part

WEIGHTS, DIGEST = "base", "base_sha256"  # in a checkpoint's metadata


@dataclass(frozen=True)
class Base:
    """What a model shares with everyone who has the same pretrained weights.

    Attributes:
        weights: as `model.weights` names them.
        digest: of the pretrained part as it was loaded, under its own names: adapters do not change it.
        names: of the tensors in the model's state dict that are part of it.
    """

    weights: str
    digest: str
    names: frozenset[str]

    def metadata(self) -> dict[str, str]:
        return {WEIGHTS: self.weights, DIGEST: self.digest}


def pretrained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of the pretrained part by its own names; to be asked for before adapters go in."""
    return pretrained_part(model).state_dict(keep_vars=True)


def base_of(model: nn.Module, weights: str, loaded: Mapping[str, Tensor]) -> Base | None:
    """The base of a model that is ready to train: what of ``loaded`` (see `pretrained_tensors`) is frozen.

    Buffers move when anything around them trains, so they belong to it only if no pretrained parameter does. None when
    nothing is frozen, for then a checkpoint has to hold everything.
    """
    moves = any(tensor.requires_grad for tensor in loaded.values())
    frozen = {
        id(tensor)
        for tensor in loaded.values()
        if not tensor.requires_grad and (isinstance(tensor, nn.Parameter) or not moves)
    }
    names = frozenset(name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) in frozen)
    return Base(weights, digest(loaded), names) if names else None


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hexadecimal) over names, shapes and values, as float32 where they are of another floating type."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()


def trained_part(state: Mapping[str, Tensor], base: Base | None) -> dict[str, Tensor]:
    """A model's ``state`` without its base."""
    return {name: value for name, value in state.items() if base is None or name not in base.names}


def load_trained(
    model: nn.Module, base: Base | None, state: Mapping[str, Tensor], metadata: Mapping[str, str], source: object
) -> None:
    """Load ``state`` into a ``model`` on its ``base``: all of it, or by ``metadata`` what was trained on a base.

    Raises WeightsError, naming the ``source``, when the model's base is another, or tensors are missing, left over or
    of another shape. Nothing is loaded then.
    """
    based = WEIGHTS in metadata
    if based and (base is None or base.digest != metadata[DIGEST]):
        found = f"{base.weights} has {base.digest[:16]}" if base else "this model has no frozen pretrained part"
        raise WeightsError(
            f"{source} was trained on the base weights {metadata[WEIGHTS]} of sha256 {metadata[DIGEST][:16]}, but "
            f"{found}: put back the weights it was trained on, or let model.weights in its config.yaml name their file"
        )
    own = trained_part(model.state_dict(), base if based else None)
    wrong = [name for name in own.keys() | state.keys() if name not in own or name not in state]
    wrong += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if wrong:
        raise WeightsError(
            f"{source} does not fit the model of its config.yaml: {len(wrong)} tensors differ, such as {min(wrong)}; "
            "put back the config.yaml the run was trained with"
        )
    model.load_state_dict(state, strict=False)
