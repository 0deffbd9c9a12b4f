"""Build a segmentation model: a network with its encoder's weights, ready to train or to load."""

import inspect
import math
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from samseg.common.errors import ConfigError, WeightsError, did_you_mean, suggestion
from samseg.common.hub import refusal
from samseg.encoders import ROWS, find_row
from samseg.encoders.encoder import trunk_of
from samseg.encoders.fetch import WAYS_OUT, fetch, is_published, load_sam_weights
from samseg.encoders.registry import PUBLISHED
from samseg.encoders.weights import read_checkpoint
from samseg.models.sam.dense import SamSegmenter

ARCHITECTURES = smp.MODEL_ARCHITECTURES_MAPPING | {"sam": SamSegmenter}
# SMP's defaults answer at the image's size for one encoder depth only.
UPSAMPLING = {"fpn": lambda depth: 2 ** (depth - 3), "pspnet": lambda depth: 2**depth}


def create_model(
    arch: str,
    encoder_name: str = "sam-vit_b",
    encoder_weights: str | Path | None = "pretrained",
    in_channels: int = 3,
    classes: int = 1,
    **decoder: Any,
) -> nn.Module:
    """`smp.create_model` for SAM's encoders and all others, with nothing swallowed, and SAM's own mask decoder.

    What it adds: a checkpoint file as `encoder_weights`, an error for an argument that SMP would drop in silence, and
    FPN and PSPNet answering at the image's size at every encoder depth.

    Args:
        arch: an SMP architecture by name, such as "unet", or "sam": SAM's mask decoder with a token for each class.
        encoder_name: one of ours, or any encoder of SMP.
        encoder_weights: "pretrained" for what is published, a set of it by its name ("sa-1b"), a checkpoint file, or
            None for random weights.
        in_channels: channels of the image; other than 3, the pretrained RGB filters are shared out as SMP does.
        classes: channels of the logits (B, classes, H, W).
        decoder: arguments of the architecture's class, such as `decoder_channels`.

    Raises:
        ConfigError: unknown architecture, encoder or argument, or a value that the SMP class refuses.
        WeightsError: the weights cannot be had or do not fit.
    """
    network = network_class(arch, encoder_name)
    _check_arguments(network, encoder_name, decoder)
    if arch.lower() in UPSAMPLING and "encoder_depth" in decoder:
        decoder.setdefault("upsampling", UPSAMPLING[arch.lower()](decoder["encoder_depth"]))
    by_smp, file = _find_weights(network, encoder_name, encoder_weights)
    try:
        model = network(
            encoder_name=encoder_name, encoder_weights=by_smp, in_channels=in_channels, classes=classes, **decoder
        )
    except (HfHubHTTPError, OSError) as error:
        raise WeightsError(
            f"the {encoder_weights} weights of {encoder_name} cannot be fetched from the hub "
            f"({refusal(error) or type(error).__name__}); {WAYS_OUT}"
        ) from error
    except ConfigError:
        raise
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:  # whatever a value of theirs runs into
        raise ConfigError(f"{arch} with {encoder_name} cannot be built: {' '.join(str(error).split())}") from error
    if isinstance(model, smp.FPN) and model.decoder.merge.policy == "add":
        model.decoder.merge = Sum()
    if file is not None:
        _load_file(model, encoder_name, file)
    return model


def check_image_size(model: nn.Module, size: int) -> None:
    """ConfigError for square images that a model does not take: SMP holds most decoders to multiples of 32."""
    stride = model.encoder.output_stride if getattr(model, "requires_divisible_input_shape", False) else 1
    if size % stride:
        trunk, name = trunk_of(model), type(model).__name__
        step = stride if trunk is None else math.lcm(stride, trunk.multiple)
        sizes = " or ".join(str(side) for side in (size // step * step, size // step * step + step) if side)
        raise ConfigError(f"data.image_size must be a multiple of {step} for {name}, got {size}; try {sizes}")


class Sum(nn.Module):
    """The sum of an FPN's maps, without SMP's copy of them all.

    Four maps (1, 128, 256, 256) take 70 ms instead of 125 on two cores, and of 700 where their memory is channels last.
    """

    def forward(self, x: list[Tensor]) -> Tensor:
        total = x[0]
        for other in x[1:]:
            total = total + other
        return total


def network_class(arch: str, encoder_name: str) -> type[nn.Module]:
    """The class of an architecture, by name; ConfigError where that, or the encoder's name, is not known."""
    if arch.lower() not in ARCHITECTURES:
        raise ConfigError(f"unknown architecture '{arch}'{suggestion(arch, ARCHITECTURES)}")
    if arch.lower() == "dpt" and not encoder_name.startswith("tu-"):
        raise ConfigError(
            f"DPT takes timm's encoders only, not {encoder_name}; for SAM's ViT-B use tu-samvit_base_patch16.sa1b"
        )
    find_row(encoder_name)
    encoders = smp.encoders.get_encoder_names()
    universal = encoder_name.startswith(("tu-", "timm-")) and timm.is_model(encoder_name.split("-", 1)[1].split(".")[0])
    if encoder_name not in encoders and not universal:
        names = [*ROWS, *(name for name in encoders if name not in ROWS)]
        known = [*encoders, *timm.list_models("vit_*")]
        hint = did_you_mean(encoder_name, known) or f"; there are {', '.join(names)}, and tu-<timm model>"
        raise ConfigError(f"unknown encoder '{encoder_name}'{hint}")
    return ARCHITECTURES[arch.lower()]


def _check_arguments(network: type[nn.Module], encoder_name: str, arguments: dict[str, Any]) -> None:
    if encoder_name.startswith("tu-"):
        return  # SMP hands what it does not know to timm, which checks it
    known = [name for name in inspect.signature(network).parameters if name not in ("kwargs", "encoder_name")]
    for name in arguments:
        if name == "img_size":
            raise ConfigError("img_size is not an argument: the encoder takes images of any size")
        if name not in known:
            raise ConfigError(
                f"unknown argument '{name}' of {network.__name__}{did_you_mean(name, known)}; it takes "
                + ", ".join(known)
            )


def _find_weights(
    network: type[nn.Module], encoder_name: str, weights: str | Path | None
) -> tuple[str | None, Path | None]:
    """Which weights SMP fetches by name, and which file is loaded afterwards; at most one of the two."""
    if weights is None:
        return None, None
    if encoder_name in ROWS:  # before a large network is built for nothing
        if is_published(weights):
            return None, fetch(encoder_name, network is SamSegmenter, weights=str(weights))
        return None, Path(weights)
    published = ["imagenet"] if encoder_name.startswith(("tu-", "timm-")) else list(_settings(encoder_name))
    if weights in published or weights == PUBLISHED[0]:
        return str(weights) if weights in published else published[0], None
    if Path(weights).is_file():
        return None, Path(weights)
    names = ", ".join([PUBLISHED[0], *published])
    raise WeightsError(f"no weights '{weights}' for {encoder_name}; expected {names}, a checkpoint file or null")


def _settings(encoder_name: str) -> dict[str, Any]:
    return smp.encoders.encoders[encoder_name]["pretrained_settings"]


def _load_file(model: nn.Module, encoder_name: str, file: Path) -> None:
    if isinstance(model, SamSegmenter):
        model.load_sam(file)
        return
    if encoder_name in ROWS:
        load_sam_weights(model.encoder, file)
        return
    try:
        model.encoder.load_state_dict(read_checkpoint(file))
    except (RuntimeError, KeyError) as error:
        raise WeightsError(f"{file}: does not fit {encoder_name}: {' '.join(str(error).split())[:200]}") from error
