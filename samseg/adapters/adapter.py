"""The bottleneck adapter of Medical SAM Adapter (Wu et al., 2023, https://arxiv.org/abs/2304.12620).

Reference code: `Adapter` and `AdapterBlock` in Medical-SAM-Adapter. There the adapter's last layer is random at first;
here it is zero, so that training starts from SAM.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from samseg.errors import ConfigError

MLP_SCALE = 0.5  # of the adapter beside the MLP, as in the reference code


class Bottleneck(nn.Module):
    """What is added: up(GELU(down(x))), with the up-projection zero at first.

    A block has two: one follows attention and reads its output, the other runs beside the MLP, reads what the MLP reads
    and is scaled by 0.5.

    Args:
        width: channels C of the tokens.
        ratio: the hidden width as a share of C.
    """

    def __init__(self, width: int, ratio: float = 0.25):
        super().__init__()
        hidden = int(width * ratio)
        if hidden < 1:
            raise ConfigError(f"the ratio of an adapter must leave 1 of {width} channels or more, got {ratio}")
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., C) -> (..., C)."""
        return self.up(F.gelu(self.down(x)))
