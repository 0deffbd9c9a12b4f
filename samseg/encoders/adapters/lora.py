"""LoRA (Hu et al., 2021, https://arxiv.org/abs/2106.09685) on the queries and values of SAM's fused qkv."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders.adapters.adapter import Adapter, Count, Positive


class LoRA(Adapter):
    """What is added to qkv(x): alpha / rank * [B_q A_q x, 0, B_v A_v x].

    Attention pads windows after qkv, with the bias alone; SAM's padding tokens are zeros, whose LoRA is zero too, so
    the padding stays SAM's.

    Args:
        width: channels C of the tokens.
        out: channels D of the queries, of the keys and of the values; None: C.
        rank: of each of the two updates.
        alpha: the update is scaled by alpha / rank; None: by 1.
    """

    sites = {"attn.qkv": {}}
    tokenwise = True

    def __init__(self, width: int, out: int | None = None, *, rank: Count = 4, alpha: Positive | None = None):
        super().__init__()
        out = out or width
        self.scale = 1.0 if alpha is None else alpha / rank
        self.a = nn.Parameter(torch.empty(2 * rank, width))  # A_q's rows, then A_v's
        self.b_q = nn.Parameter(torch.zeros(out, rank))
        self.b_v = nn.Parameter(torch.zeros(out, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., C) -> (..., 3D)."""
        return F.linear(F.linear(x, self.a), self.up())

    def up(self) -> Tensor:
        """The scaled B of the fused qkv, (3D, 2 * rank): B_q over no update of the keys over B_v."""
        out, rank = self.b_q.shape
        q = F.pad(self.b_q, [0, rank, 0, 2 * out])
        v = F.pad(self.b_v, [rank, 0, 2 * out, 0])
        return self.scale * (q + v)

    def delta(self) -> Tensor:
        """The update as a matrix (3D, C): what merging adds to qkv's weight."""
        return self.up() @ self.a
