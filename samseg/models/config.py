"""What a configuration says of the network, under the key `model`."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from samseg.errors import ConfigError, did_you_mean, require

ADAPTERS: dict[str, dict[str, Any]] = {  # the keys of each method, and what they are if left out
    "lora": {"rank": 4, "alpha": None},
    "conv_lora": {"rank": 3, "alpha": 32.0, "experts": 8},
    "adapter": {"ratio": 0.25},
}


@dataclass
class AdapterConfig:
    """Small trainable parts in SAM's frozen encoder (sam-vit_b, sam-vit_l, sam-vit_h); they learn at train.lr."""

    name: str | None = None  # lora: on q and v | conv_lora: on q, k and v | adapter: bottlenecks in each block | null
    blocks: list[int] | None = None  # indices of the transformer blocks that get one; null: all
    rank: int | None = None  # of lora (null: 4) and conv_lora (null: 3)
    alpha: float | None = None  # what is learned is scaled by alpha / rank; null: by 1 in lora, alpha 32 in conv_lora
    experts: int | None = None  # of conv_lora: convolutions at 1 .. experts times the resolution, one chosen; null: 8
    ratio: float | None = None  # of adapter: its hidden width as a share of the encoder's; null: 0.25


@dataclass
class ModelConfig:
    arch: str = "unet"  # any SMP decoder by name: unet, fpn, deeplabv3plus ... | sam: SAM's mask decoder
    encoder: str = "sam-vit_b"  # sam-vit_b | sam-vit_l | sam-vit_h | sam-vit_t, or any encoder of SMP, such as resnet34
    weights: str | None = "sa-1b"  # sa-1b | imagenet | a checkpoint's path | null: start at random
    freeze_encoder: bool = True  # train the decoder (and SAM's pyramid and the adapter) only
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    decoder: dict[str, Any] = field(default_factory=dict)  # arguments of arch: {decoder_channels: [64, 32]}


def adapter_arguments(adapter: AdapterConfig) -> dict[str, Any]:
    """The arguments of the chosen method, and its blocks."""
    return {key: getattr(adapter, key) for key in ("blocks", *ADAPTERS[adapter.name])}


def complete_model(model: ModelConfig) -> None:
    """Check the section and fill in, in place, what follows from other values; ConfigError for what cannot be."""
    if model.weights is not None and (file := Path(model.weights).expanduser()).is_file():
        model.weights = str(file.resolve())  # the run's readers need the file, too, from wherever they start
    adapter = model.adapter
    if adapter.name is not None and adapter.name not in ADAPTERS:
        raise ConfigError(
            f"model.adapter.name must be {', '.join(ADAPTERS)} or null, got {adapter.name!r}"
            + did_you_mean(adapter.name, ADAPTERS)
        )
    known = ["blocks", *ADAPTERS[adapter.name]] if adapter.name else []
    for item in fields(adapter):
        if item.name not in ("name", *known) and getattr(adapter, item.name) is not None:
            takes = f"{adapter.name} takes {', '.join(known)}" if known else "set model.adapter.name first"
            raise ConfigError(f"model.adapter.{item.name} is not a key of model.adapter.name={adapter.name}; {takes}")
    if adapter.name and not model.freeze_encoder:
        raise ConfigError(
            f"model.adapter.name={adapter.name} learns beside a frozen encoder, but model.freeze_encoder is false: set "
            "it to true, or model.adapter.name to null to train the whole encoder"
        )
    require("model.adapter.rank", adapter.rank, "at least 1", lambda value: value >= 1)
    require("model.adapter.alpha", adapter.alpha, "above 0", lambda value: 0 < value < math.inf)
    require("model.adapter.experts", adapter.experts, "at least 2", lambda value: value >= 2)
    require("model.adapter.ratio", adapter.ratio, "above 0", lambda value: 0 < value < math.inf)
    if adapter.blocks is not None and (not adapter.blocks or min(adapter.blocks) < 0):
        raise ConfigError(f"model.adapter.blocks must be indices of blocks from 0, or null for all: {adapter.blocks}")
    for key, default in ADAPTERS.get(adapter.name, {}).items():
        if getattr(adapter, key) is None:
            setattr(adapter, key, default)
