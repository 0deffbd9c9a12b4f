"""The bottleneck adapter of Medical SAM Adapter (Wu et al., 2023, https://arxiv.org/abs/2304.12620).

Reference code: `Adapter` and `AdapterBlock` in Medical-SAM-Adapter. There the adapter's last layer is random at first;
here it is zero, so that training starts from SAM.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from samseg.common.errors import ConfigError
from samseg.encoders.adapters.adapter import Adapter, Positive


class Bottleneck(Adapter):
    """What is added: scale * up(GELU(down(x))), with the up-projection zero at first.

    A block has two, as in the reference code: one follows attention and reads its output, the other runs beside the
    MLP, reads what the MLP reads and is scaled by 0.5.

    Args:
        width: channels C of the tokens.
        scale: of what is added.
        ratio: the hidden width as a share of C.
    """

    sites = {"attn": {"scale": 1.0}, "mlp": {"scale": 0.5}}
    tokenwise = True

    def __init__(self, width: int, scale: float = 1.0, *, ratio: Positive = 0.25):
        super().__init__()
        hidden = int(width * ratio)
        if hidden < 1:
            raise ConfigError(f"the ratio of an adapter must leave 1 of {width} channels or more, got {ratio}")
        self.scale = scale
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., C) -> (..., C)."""
        return self.scale * self.up(F.gelu(self.down(x)))
