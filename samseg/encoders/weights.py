"""SAM checkpoints: read, recognised, and brought to the trunk's names.

The same encoder is published in several layouts; the network here has segment-anything's names:

    segment-anything, MobileSAM, fine-tunes   image_encoder.blocks.0.mlp.lin1.weight   beside mask_decoder.*, ...
    timm                                      blocks.0.mlp.fc1.weight
    transformers                              vision_encoder.layers.0.mlp.lin1.weight  beside mask_decoder.*, ...
"""

import errno
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from samseg.encoders.registry import VARIANTS
from samseg.errors import WeightsError

CONTAINERS = ("model", "state_dict", "model_state", "model_state_dict")  # under which training scripts file the weights
PICKLED = re.compile("GLOBAL|Unsupported (global|class)")  # in the words of torch's unpickler
PICKLED_NAME = re.compile(r"GLOBAL ([\w.]+)")
FIRST_CONVOLUTION = re.compile(r"(.*?)patch_embed\.(?:proj|projection|seq\.0\.c)\.weight")
RENAMES = (  # transformers' and timm's names -> segment-anything's
    (re.compile(r"^patch_embed\.projection\."), "patch_embed.proj."),
    (re.compile(r"^layers\.(\d+)\.layer_norm([12])\."), r"blocks.\1.norm\2."),
    (re.compile(r"^layers\.(\d+)\.(attn|mlp)\.(qkv|proj|lin1|lin2|rel_pos_[hw])"), r"blocks.\1.\2.\3"),
    (re.compile(r"^(blocks\.\d+\.mlp)\.fc([12])\."), r"\1.lin\2."),
    (re.compile(r"^neck\.conv1\."), "neck.0."),
    (re.compile(r"^neck\.layer_norm1\."), "neck.1."),
    (re.compile(r"^neck\.conv2\."), "neck.2."),
    (re.compile(r"^neck\.layer_norm2\."), "neck.3."),
)


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds: a variant's encoder, in somebody's layout, and, if it is ``whole``, the rest of SAM."""

    variant: str
    layout: str
    whole: bool


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of a torch file, by name. No code in the file is run."""
    if not path.is_file():
        raise WeightsError(f'{path}: no such file; expected a SAM checkpoint, or "sa-1b" for the published weights')
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
    encoders = {name: one for name, one in found.items() if any(map(FIRST_CONVOLUTION.fullmatch, one))}
    if len(encoders) > 1:
        raise WeightsError(
            f"{path}: holds several models ({', '.join(encoders)}); save the one that is meant as a file of its own"
        )
    if not found:
        raise WeightsError(f"{path}: not a SAM checkpoint; it holds no named tensors")
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
        reason = "" if own else f" ({_first_line(error)})"
        raise WeightsError(f"{path}: truncated, or not a torch checkpoint{reason}") from None


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity; None if there is none."""
    return next((k for k, value in state.items() if value.is_floating_point() and not value.isfinite().all()), None)


def trunk_state(state: Mapping[str, Tensor], variant: str, trunk: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's image encoder under the names of a variant's ``trunk``, complete and of the right shapes.

    WeightsError for one that is not.
    """
    prefix = _encoder_prefix(state)
    found = {_rename(key.removeprefix(prefix)): value for key, value in state.items() if key.startswith(prefix)}
    unused = getattr(trunk, "UNUSED_KEYS", ())
    found = {key: value for key, value in found.items() if key not in unused}
    expected = trunk.state_dict()
    other = _variant_of(found)
    if other is not None and other != variant:
        raise WeightsError(f'these are weights of {other}, not of {variant}; use the encoder "{other}"')
    missing = [key for key in expected if key not in found]
    surplus = [key for key in found if key not in expected]
    if missing or surplus:
        parts = [listed("lacks", missing), listed("has the unknown", surplus)]
        raise WeightsError(f"not a checkpoint of {variant}: its image encoder " + " and ".join(filter(None, parts)))
    found = _resampled(found, expected)
    first = trunk.get_parameter(next(key for key in expected if FIRST_CONVOLUTION.fullmatch(key)))
    for key, value in found.items():
        if FIRST_CONVOLUTION.fullmatch(key) and value.shape[1] == 3:
            value = found[key] = _rgb_filters_for(value, first.shape[1])
        if value.shape != expected[key].shape:
            raise WeightsError(
                f"not a checkpoint of {variant}: {key} has shape {tuple(value.shape)}, "
                f"expected {tuple(expected[key].shape)}"
            )
    return found


def _resampled(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Positions of an encoder that was fine-tuned at another size, brought to the published table's size."""
    own, wanted = found.get("pos_embed"), expected.get("pos_embed")
    if own is None or wanted is None or own.ndim != 4 or own.shape[3] != wanted.shape[3] or own.shape == wanted.shape:
        return found
    table = own.float().permute(0, 3, 1, 2)
    table = F.interpolate(table, size=list(wanted.shape[1:3]), mode="bicubic", antialias=True).permute(0, 2, 3, 1)
    resampled = {"pos_embed": table.to(own.dtype)}
    for key, value in found.items():
        side = {"rel_pos_h": own.shape[1], "rel_pos_w": own.shape[2]}.get(key.rpartition(".")[2])
        if side is not None and len(value) == 2 * side - 1:  # of a block that looks at the whole image
            row = F.interpolate(value.float().t()[None], size=len(expected[key]), mode="linear")
            resampled[key] = row[0].t().to(value.dtype)
    return found | resampled


def variant_of(state: Mapping[str, Tensor]) -> str:
    """The registry's name for the image encoder in a checkpoint; WeightsError for what is none of its rows."""
    prefix = _encoder_prefix(state)
    variant = _variant_of({_rename(key.removeprefix(prefix)): value for key, value in state.items()})
    if variant is None:
        raise WeightsError(f"its image encoder is none of {', '.join(VARIANTS)}")
    return variant


def contents(state: Mapping[str, Tensor]) -> Contents:
    """What a checkpoint is by its names; WeightsError when its image encoder is none of the registry's."""
    variant, whole = variant_of(state), any("mask_decoder." in key for key in state)
    if variant == "sam-vit_t":
        return Contents(variant, "MobileSAM", whole)
    if any(".layer_norm1." in key for key in state):
        return Contents(variant, "transformers", whole)
    timm = any(".mlp.fc1." in key for key in state)
    return Contents(variant, "timm" if timm else "segment-anything", whole)


def _encoder_prefix(state: Mapping[str, Tensor]) -> str:
    prefixes = {match[1] for key in state if (match := FIRST_CONVOLUTION.fullmatch(key))}
    if len(prefixes) != 1:
        raise WeightsError("not a SAM checkpoint: no tensor in it is the first layer of SAM's image encoder")
    prefix = prefixes.pop()
    if any(key.startswith(f"{prefix.removesuffix('trunk.')}pyramid.") for key in state):
        raise WeightsError("a trained samseg model, not a SAM checkpoint; load it with its run, or load_state_dict")
    return prefix


def _rename(key: str) -> str:
    for pattern, replacement in RENAMES:
        key = pattern.sub(replacement, key)
    return key


def _variant_of(state: Mapping[str, Tensor]) -> str | None:
    """The registry's name for an encoder of this width and number of blocks, if it has one."""
    if "patch_embed.seq.0.c.weight" in state:
        return "sam-vit_t"
    width = state["patch_embed.proj.weight"].shape[0]
    depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    for name, row in VARIANTS.items():
        if (row.arguments.get("width"), row.arguments.get("depth")) == (width, depth):
            return name
    return None


def _rgb_filters_for(weight: Tensor, channels: int) -> Tensor:
    """RGB filters for another number of channels, by SMP's convention: summed for one, else repeated and rescaled."""
    if channels == 3:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, [i % 3 for i in range(channels)]] * (3 / channels)


def listed(verb: str, keys: list[str]) -> str:
    """``verb`` and the first of the ``keys``, for a sentence; nothing without any."""
    if not keys:
        return ""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{verb} {', '.join(keys[:3])}{more}"


def _first_byte(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
