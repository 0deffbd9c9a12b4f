"""The model of a run's configuration."""

from typing import NamedTuple

from torch import nn

from samseg.common.errors import ConfigError
from samseg.encoders import find_row
from samseg.encoders.adapters.insert import add_adapter, check_sites
from samseg.models.config import ModelConfig
from samseg.models.pretrained import Base, base_of, pretrained_tensors
from samseg.models.smp import create_model
from samseg.models.trainable import freeze_encoder


class Built(NamedTuple):
    """A network, and the base that its checkpoints need not hold (None: they hold all of it)."""

    model: nn.Module
    base: Base | None


def build_model(config: ModelConfig, classes: int, pretrained: bool = True, in_channels: int = 3) -> Built:
    """The model of a run's configuration for images of `in_channels` bands.

    `pretrained=False` leaves all weights random, as a whole checkpoint follows.

    Raises ConfigError and WeightsError as `create_model` and `add_adapter` do.
    """
    check_adapter(config)
    if config.adapter is not None and config.adapter.get("decoder"):
        raise ConfigError(
            "model.adapter.decoder=true is for task: promptable, whose mask decoder is SAM's; leave it out"
        )
    weights = config.weights if pretrained else None
    model = create_model(config.arch, config.encoder, weights, in_channels, classes, **config.decoder)
    return freeze_and_adapt(model, config, weights)


def check_adapter(config: ModelConfig) -> None:
    """ConfigError for an adapter that the encoder does not take: to be asked before a large network is built."""
    if config.adapter is not None:
        row = find_row(config.encoder)
        check_sites(config.adapter["name"], config.encoder, None if row is None else row.outline)


def freeze_and_adapt(model: nn.Module, config: ModelConfig, weights: str | None) -> Built:
    """A network that has loaded ``weights``, frozen and adapted as ``config`` says."""
    loaded = pretrained_tensors(model)  # before an adapter gives them other names
    if config.freeze_encoder:
        freeze_encoder(model)
    if config.adapter is not None:
        add_adapter(model, **{key: value for key, value in config.adapter.items() if key != "decoder"})
    return Built(model, base_of(model, weights, loaded) if weights is not None else None)
