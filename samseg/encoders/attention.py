"""Attention of SAM's networks, over maps or in windows: SAM's with relative positions, SAM 3's with rotary ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders import ops
from samseg.encoders.linear import Linear, is_tokenwise

ROTARY_BASE = 10000.0


class Attention(nn.Module):
    """Multi-head self-attention over (B, H, W, C) tokens.

    Args:
        heads: attention heads.
        window: side of the square windows attended to separately, in tokens; 0 attends to the whole map.
        qkv, proj: the layers before and behind it.

    Attributes:
        shrink: how much smaller the sides of the map are that it gives.
        adapter: None, or a module that reads the output, and whose own is added to it.
    """

    shrink = 1

    def __init__(self, heads: int, window: int, qkv: Linear, proj: Linear):
        super().__init__()
        self.heads = heads
        self.window = window
        self.adapter = None
        self.qkv = qkv
        self.proj = proj

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        out = self.over_map(qkv) if self.window == 0 else self.in_windows(qkv)
        out = self.proj(out.flatten(3))
        return out if self.adapter is None else out + self.adapter(out)

    @property
    def rows_of_windows_apart(self) -> bool:
        """Whether what it gives for a row of windows depends on that row alone."""
        own = is_tokenwise(self.qkv, self.proj) and (self.adapter is None or is_tokenwise(self.adapter))
        return self.window > 0 and own

    def over_map(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3, heads, d) -> (B, H, W, heads, d), every token attending to all others."""
        return self.attend(*qkv.permute(3, 0, 4, 1, 2, 5).unbind(0)).permute(0, 2, 3, 1, 4)

    def in_windows(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3, heads, d) -> (B, H, W, heads, d), every token attending to those of its window.

        SAM fills windows up with zeros after the norm and before qkv, so the padding's q, k and v are the biases; they
        take part as keys and values and need no matrix product.
        """
        padding = self.qkv.bias.view(qkv.shape[3:])
        windows = self.attend(*ops.cut_windows(qkv, padding, self.window))
        return ops.join_windows(windows, qkv.shape[1] // self.shrink, qkv.shape[2] // self.shrink)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of each (H, W) map to itself: q, k and v are (B, heads, H, W, d), and so is the result, but for
        `shrink`."""
        raise NotImplementedError


class RelativeAttention(Attention):
    """With a learnt vector for each distance in rows, and for each in columns, which queries are multiplied with.

    Args:
        width: channels C; C / heads for each head.
        heads, window: as `Attention`'s.
        table_size: side of the map that the relative positions were made for, in tokens.
    """

    def __init__(self, width: int, heads: int, window: int, table_size: int):
        super().__init__(heads, window, Linear(width, 3 * width), Linear(width, width))
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * table_size - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * table_size - 1, width // heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        table_h, table_w = _relative_table(self.rel_pos_h, q.shape[2]), _relative_table(self.rel_pos_w, q.shape[3])
        return ops.attention(q, k, v, table_h, table_w)


class RotaryAttention(Attention):
    """With queries and keys turned by their column, in the first half of a head's channels, and by their row.

    Args:
        width: channels C; C / heads for each head.
        heads, window: as `Attention`'s.
        span: length that a whole map's longer side is given, in tokens; a window counts its own tokens.
    """

    def __init__(self, width: int, heads: int, window: int, span: int):
        super().__init__(heads, window, Linear(width, 3 * width), Linear(width, width))
        self.span = span

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cos, sin = self.turns(*q.shape[2:], q.device)
        q, k = _turned(q, cos, sin), _turned(k, cos, sin)
        return ops.plain_attention(q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3)).view_as(q)

    def turns(self, H: int, W: int, d: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine (H, W, d / 2) of the angle by which each pair of channels is turned."""
        step = 1.0 if self.window else self.span / max(H, W)
        frequency = ROTARY_BASE ** -torch.arange(0, 1, 4 / d, device=device)
        rows, columns = (torch.arange(side, device=device)[:, None] * step * frequency for side in (H, W))
        angle = torch.cat([columns.expand(H, -1, -1), rows[:, None].expand(-1, W, -1)], dim=2)
        return angle.cos(), angle.sin()


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each pair of channels of (..., H, W, d) as a point in the plane, turned around the origin."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)


def _relative_table(rel_pos: Tensor, size: int) -> Tensor:
    """Rows i - j of a (2 * size - 1, d) table, as (size, size, d); a table of another size is resampled as
    timm does."""
    length = 2 * size - 1
    if rel_pos.shape[0] != length:
        resized = F.interpolate(rel_pos.float().t().unsqueeze(0), size=length, mode="linear")
        rel_pos = resized.squeeze(0).t().to(rel_pos.dtype)
    index = torch.arange(size, device=rel_pos.device)
    return ops.lookup(rel_pos, index[:, None] - index[None, :] + size - 1)
