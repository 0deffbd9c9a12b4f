"""Checkpoints: read, recognised by their names and shapes, and brought to the trunk's names."""

import errno
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from samseg.common.errors import WeightsError, first_line
from samseg.encoders.layouts import Layout
from samseg.encoders.registry import ROWS
from samseg.encoders.trunk import Trunk

CONTAINERS = ("model", "state_dict", "model_state", "model_state_dict")  # under which training scripts file the weights
PICKLED = re.compile("GLOBAL|Unsupported (global|class)")  # in the words of torch's unpickler
PICKLED_NAME = re.compile(r"GLOBAL ([\w.]+)")
# How many of an encoder's tensors, by name and shape, a file must have to be taken for its. A ViT-B of another origin
# has 0.8 of SAM's, which has relative positions and a neck besides.
ENOUGH = 0.9


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds: an encoder, in somebody's layout, and, if it is ``whole``, the rest of SAM."""

    variant: str
    layout: str
    whole: bool


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of a torch file, by name. No code in the file is run."""
    if not path.is_file():
        raise WeightsError(f'{path}: no such file; expected a checkpoint, or "pretrained" for the published weights')
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: truncated, or not a safetensors file ({error})") from error
    else:
        state = read_torch(path)
    for container in CONTAINERS:
        if isinstance(state, dict) and isinstance(state.get(container), dict):
            state = state[container]
    state = _named_tensors(state, path)
    if bad := not_finite(state):
        raise WeightsError(f"{path}: damaged; it holds NaN or infinity in {bad}. Fetch it again")
    return state


def _named_tensors(state: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a dictionary, or of the only one inside of it that is of an image encoder (``state_dict_ema``)."""
    found = _dictionaries(state)
    if "" in found:
        return found[""]
    encoders = {name: one for name, one in found.items() if any(_match(one, variant) for variant in ROWS)}
    if len(encoders) > 1:
        raise WeightsError(
            f"{path}: holds several models ({', '.join(encoders)}); save the one that is meant as a file of its own"
        )
    if not found:
        raise WeightsError(f"{path}: not a checkpoint; it holds no named tensors")
    return next(iter((encoders or found).values()))


def _dictionaries(state: Any, name: str = "") -> dict[str, dict[str, Tensor]]:
    """The dictionaries that hold named tensors, by their keys, joined by dots; nothing is sought inside of them."""
    if not isinstance(state, dict):
        return {}
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        return {name: tensors}
    inner = [_dictionaries(value, f"{name}.{key}".strip(".")) for key, value in state.items()]
    return {key: one for found in inner for key, one in found.items()}


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, of tensors and plain values alone; WeightsError for anything else. No code is run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle's protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler stumbled on
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a file cut short
            raise WeightsError(f"{path} cannot be read ({error.strerror})") from None
        if PICKLED.search(str(error)) or ("Unsupported operand" in str(error) and _first_byte(path) == b"\x80"):
            named = PICKLED_NAME.search(str(error))
            objects = f" ({named[1]})" if named else ""
            raise WeightsError(
                f"{path}: not a plain checkpoint; it holds pickled Python objects{objects}, which could run any code "
                "and are not loaded. Save the model's state_dict alone"
            ) from None  # torch's own words advise to load them all the same
        # Those of an unpickler are that advice again, those of a lookup a number.
        own = isinstance(error, (pickle.UnpicklingError, KeyError, OSError)) or not str(error)
        reason = "" if own else f" ({first_line(error)})"
        raise WeightsError(f"{path}: truncated, or not a torch checkpoint{reason}") from None


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity; None if there is none."""
    return next((k for k, value in state.items() if value.is_floating_point() and not value.isfinite().all()), None)


def trunk_state(state: Mapping[str, Tensor], variant: str, trunk: Trunk) -> dict[str, Tensor]:
    """A checkpoint's tensors under the names of a variant's ``trunk``, complete and of the right shapes.

    WeightsError for one that is not.
    """
    match = _match(state, variant)
    other = _recognised(state) if match is None or match.share < 1 else match
    if other is not None and other.variant != variant and (other.layout.lacks or not other.missing):
        raise WeightsError(f'these are weights of {other.variant}, not of {variant}; use the encoder "{other.variant}"')
    if match is None:
        raise WeightsError(f"not a checkpoint of {variant}: no tensor in it is that network's first layer")
    if match.layout.lacks:
        raise WeightsError(
            f"{match.layout.publisher}'s file of {variant} lacks its {match.layout.lacks}; "
            f"take that of {ROWS[variant].files[0]}"
        )
    found, expected = match.tensors, trunk.state_dict()
    first = _first(trunk)
    if found[first].shape[1] == 3:
        found[first] = _rgb_filters_for(found[first], expected[first].shape[1])
    try:
        check_tensors(found, expected, "image encoder")
    except WeightsError as error:
        raise WeightsError(f"not a checkpoint of {variant}: {error}") from None
    return found


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], part: str, prefix: str = "") -> None:
    """WeightsError, naming tensors behind a ``prefix``, unless a ``part`` has those ``expected``, all and alone."""
    missing, surplus = [key for key in expected if key not in found], [key for key in found if key not in expected]
    if missing or surplus:
        faults = [
            f"{verb} {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            for verb, keys in (("lacks", missing), ("has the unknown", surplus))
            if keys
        ]
        raise WeightsError(f"its {part} " + " and ".join(faults))
    for key, value in found.items():
        if value.shape != expected[key].shape:
            shapes = f"shape {tuple(value.shape)}, expected {tuple(expected[key].shape)}"
            raise WeightsError(f"{prefix}{key} has {shapes}")


def variant_of(state: Mapping[str, Tensor]) -> str:
    """The registry's name for the encoder in a checkpoint; WeightsError for what is none of its rows."""
    return contents(state).variant


def contents(state: Mapping[str, Tensor]) -> Contents:
    """What a checkpoint is by its names and shapes; WeightsError when its encoder is none of the registry's."""
    match = _recognised(state)
    if match is None:
        if all(_match(state, name) is None for name in ROWS):
            raise WeightsError("not a checkpoint of an encoder of samseg's: no tensor in it is the first layer of one")
        raise WeightsError(f"its image encoder is none of {', '.join(ROWS)}")
    return Contents(match.variant, match.layout.publisher, any("mask_decoder." in key for key in state))


@dataclass(frozen=True)
class _Match:
    """A checkpoint read as a variant's in one of its layouts.

    Attributes:
        tensors: under the trunk's names.
        missing: number of the variant's tensors that it has not, or of another shape.
        share: of the tensors that the variant or the checkpoint has, those that both have, of the same shape.
    """

    variant: str
    layout: Layout
    tensors: dict[str, Tensor]
    missing: int
    share: float


def _recognised(state: Mapping[str, Tensor]) -> _Match | None:
    """The encoder that a checkpoint holds, without doubt."""
    state = {name: tensor.to("meta") for name, tensor in state.items()}  # names and shapes say it
    best = None
    for name in ROWS:
        match = _match(state, name)
        if match is not None and (best is None or match.share > best.share):
            best = match
        if best is not None and best.share == 1:  # the outlines of all further rows are not needed
            break
    return best if best is not None and best.share >= ENOUGH else None


def _match(state: Mapping[str, Tensor], variant: str) -> _Match | None:
    """A checkpoint as a variant's, in the layout that fits best; None where no tensor can be its first convolution."""
    outline = ROWS[variant].outline
    expected = {name: tensor.shape for name, tensor in outline.state_dict().items()}
    first, best = _first(outline), None
    for layout in ROWS[variant].layouts:
        prefixes = _prefixes(state, layout, first)
        if len(prefixes) != 1:
            continue
        prefix = prefixes.pop()
        if any(key.startswith(f"{prefix.removesuffix('trunk.')}pyramid.") for key in state):
            raise WeightsError(
                "a trained samseg model, not an encoder's checkpoint; load it with its run, or load_state_dict"
            )
        named = layout.read({key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})
        tensors = outline.resample_positions({k: v for k, v in named.items() if k not in outline.unused_tensors})
        there = sum(name == first or expected.get(name) == value.shape for name, value in tensors.items())
        match = _Match(variant, layout, tensors, len(expected) - there, there / max(len(expected), len(tensors)))
        if best is None or match.share > best.share:
            best = match
    return best


def _prefixes(state: Mapping[str, Tensor], layout: Layout, first: str) -> set[str]:
    """What stands before the trunk's names in a checkpoint, judged by the name of the first convolution."""
    found = set()
    for key, value in state.items():
        parts = key.split(".") if value.ndim == 4 else []
        for start in range(len(parts)):
            if layout.rename(".".join(parts[start:])) == first:
                found.add("".join(part + "." for part in parts[:start]))
    return found


def _first(trunk: Trunk) -> str:
    """The name of the first convolution's filters."""
    convolution = trunk.first_convolution()
    return next(name for name, module in trunk.named_modules() if module is convolution) + ".weight"


def _rgb_filters_for(weight: Tensor, channels: int) -> Tensor:
    """RGB filters for another number of channels, by SMP's convention: summed for one, else repeated and rescaled."""
    if channels == 3:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, [i % 3 for i in range(channels)]] * (3 / channels)


def _first_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1)
