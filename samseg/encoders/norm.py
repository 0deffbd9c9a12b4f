"""LayerNorm over the channels of NCHW maps, as SAM's neck has it."""

import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders.ops.layout import channels_first


class LayerNorm2d(nn.LayerNorm):
    """Normalise each position of (B, C, H, W) over its channels; the same numbers as segment-anything's LayerNorm2d."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return channels_first(x)
