"""A model that starts from stored features."""

import torch
from torch import Tensor, nn

from samseg.common.errors import ConfigError
from samseg.encoders import ROWS
from samseg.encoders.encoder import trunk_of


def on_taps(model: nn.Module, image_size: int) -> nn.Module:
    """Turn a `model` with a frozen encoder into what is trained on stored taps of images `image_size` px a side.

    A model that takes taps itself says so in its attribute `takes_taps`; others are made a `TapModel`.

    Raises:
        ConfigError: another encoder, or one whose trunk is trained, be it only in part.
    """
    way_out = "set train.cache_features=false"
    if trunk_of(model) is None:
        raise ConfigError(f"train.cache_features is for samseg's encoders ({', '.join(ROWS)}); take one or {way_out}")
    if any(parameter.requires_grad for parameter in model.encoder.trunk.parameters()):
        raise ConfigError(
            "train.cache_features needs an encoder that stays as it is, but parts of it are trained (adapters or "
            f"model.freeze_encoder=false): freeze all of it, or {way_out}"
        )
    return model if getattr(model, "takes_taps", False) else TapModel(model, image_size)


class TapModel(nn.Module):
    """A model, made as SMP's are, that is given a frozen encoder's taps instead of the image, so no trunk runs.

    Its parts are the model's own and have the model's names: training it trains the model, and the state_dict is the
    model's.
    """

    def __init__(self, model: nn.Module, image_size: int):
        super().__init__()
        self.channels = model.encoder._in_channels  # SMP's name
        self.encoder, self.decoder, self.segmentation_head = model.encoder, model.decoder, model.segmentation_head
        self.image_size = image_size

    def forward(self, taps: list[Tensor]) -> Tensor:
        """Taps as they are stored, (B, h, w, C) of any floating type -> logits (B, classes, image_size, image_size)."""
        maps = [tap.float().permute(0, 3, 1, 2) for tap in taps]
        shape = (len(maps[0]), self.channels, self.image_size, self.image_size)
        image = torch.zeros(1, device=maps[0].device).expand(shape)  # decoders look at its shape, if at all
        return self.segmentation_head(self.decoder(self.encoder.from_taps(maps, image)))
