"""What a configuration says of the network, under the key `model`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samseg.common.errors import ConfigError
from samseg.encoders.adapters.methods import complete_adapter


@dataclass
class ModelConfig:
    arch: str = "unet"  # any SMP decoder by name: unet, fpn, deeplabv3plus ... | sam: SAM's mask decoder
    # One that samseg weights lists, such as sam-vit_b or dinov3-vit_s; any encoder of SMP, such as resnet34; or a plain
    # ViT of timm's by its name there.
    encoder: str = "sam-vit_b"
    # pretrained: those that are published for the encoder | a set of them by its name, such as sa-1b | a checkpoint's
    # path | null: start at random
    weights: str | None = "pretrained"
    freeze_encoder: bool = True  # train the decoder (and SAM's pyramid and the adapter) only
    # Small trainable parts in a frozen encoder that is made of transformer blocks, which learn at train.lr: a method
    # by name, its arguments (samseg config --keys) and `blocks`, the indices of the blocks that get one (null: all), as
    # in {name: lora, rank: 8, blocks: [8, 9, 10, 11]}. null: none. For task: promptable `decoder: true` beside lora's
    # adapts the mask decoder's attention, too, and freezes the rest of it.
    adapter: dict[str, Any] | None = None
    decoder: dict[str, Any] = field(default_factory=dict)  # arguments of arch: {decoder_channels: [64, 32]}


OWN = {  # arguments of architectures that a run decides
    "activation": "the network gives logits, of which loss and predictor make probabilities",
    "aux_params": "nothing is learnt of an image as a whole",
    "classes": "data.classes says how many",
    "in_channels": "data.bands says how many",
    "encoder_name": "model.encoder says which",
    "encoder_weights": "model.weights says which",
}


def complete_model(model: ModelConfig) -> None:
    """Check the section and fill in, in place, what follows from other values; ConfigError for what cannot be."""
    for key in OWN.keys() & model.decoder.keys():
        raise ConfigError(f"model.decoder cannot hold {key}: {OWN[key]}; leave it out")
    if model.weights is not None and (file := Path(model.weights).expanduser()).is_file():
        model.weights = str(file.resolve())  # the run's readers need the file, too, from wherever they start
    model.adapter = complete_adapter(model.adapter)
    if model.adapter is not None and not model.freeze_encoder:
        raise ConfigError(
            f"model.adapter.name={model.adapter['name']} learns beside a frozen encoder, but model.freeze_encoder is "
            "false: set it to true, or model.adapter to null to train the whole encoder"
        )
