"""SAM checkpoints: read, recognised, and given the trunk's names.

The same encoder is published in several layouts; the network here has segment-anything's names:

    segment-anything, MobileSAM, fine-tunes   image_encoder.blocks.0.mlp.lin1.weight   beside mask_decoder.*, ...
    timm                                      blocks.0.mlp.fc1.weight
    transformers                              vision_encoder.layers.0.mlp.lin1.weight  beside mask_decoder.*, ...
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from samseg.encoders.registry import VARIANTS
from samseg.errors import WeightsError

CONTAINERS = ("model", "state_dict", "model_state", "model_state_dict")  # under which training scripts file the weights
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
    """What a checkpoint holds: a variant's encoder, in a layout, and, if it is ``whole``, the rest of SAM."""

    variant: str
    layout: str
    whole: bool


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file or of a torch file, by name. No code in the file is run."""
    if not path.is_file():
        raise WeightsError(f'{path}: no such file; expected a SAM checkpoint, or "sa-1b" for the published weights')
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{path}: truncated, or not a safetensors file ({error})") from error
    except Exception as error:  # torch raises whatever its unpickler stumbled on
        if re.search("Unsupported (global|class)", str(error)):
            raise WeightsError(
                f"{path}: not a plain checkpoint; it holds pickled Python objects, which are not loaded for safety. "
                "Save the model's state_dict alone"
            ) from error
        raise WeightsError(f"{path}: truncated, or not a torch checkpoint ({_first_line(error)})") from error
    for container in CONTAINERS:
        if isinstance(state, dict) and isinstance(state.get(container), dict):
            state = state[container]
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: not a SAM checkpoint; it holds no named tensors")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def contents(state: Mapping[str, Tensor]) -> Contents:
    """Which variant's checkpoint this is; WeightsError unless its image encoder is known, and complete."""
    prefix = _encoder_prefix(state)
    names = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
    variant = _variant_of({_rename(name): state[prefix + name] for name in names})
    if variant is None:
        raise WeightsError(f"an image encoder of no known size; there are {', '.join(VARIANTS)}")
    with torch.device("meta"):
        trunk_state(state, variant, VARIANTS[variant].build())
    if variant == "sam-vit_t":
        layout = "MobileSAM"
    elif any(name.startswith("layers.") for name in names):
        layout = "transformers"
    else:
        layout = "timm" if any(".mlp.fc1." in name for name in names) else "segment-anything"
    return Contents(variant, layout, whole=any("mask_decoder." in key for key in state))


def trunk_state(state: Mapping[str, Tensor], variant: str, trunk: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's image encoder under the names of a variant's ``trunk``.

    It is complete and of the right shapes; WeightsError for a checkpoint of which that cannot be said.
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
        parts = [_listed("lacks", missing), _listed("has the unknown", surplus)]
        raise WeightsError(f"not a checkpoint of {variant}: its image encoder " + " and ".join(filter(None, parts)))
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


def _listed(verb: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{verb} {', '.join(keys[:3])}{more}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
