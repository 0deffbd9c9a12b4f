"""SAM's attention: global or in windows, with decomposed relative positions, without ever holding all logits.

For query i at (h_i, w_i) and key j at (h_j, w_j), SAM's logit is (segment-anything, `add_decomposed_rel_pos`)

    logit(i, j) = scale q_i . k_j  +  q_i . Rh[h_i - h_j]  +  q_i . Rw[w_i - w_j]

With row_i[h] = q_i . Rh[h_i - h] / scale (one number for each row of keys) and col_i[w] likewise, that is
scale (q_i . k_j + row_i[h_j] + col_i[w_j]). Two exact ways to use that:

- folded: the last two terms are dot products with one-hot vectors, so the whole logit is one,
  scale [q_i, row_i, col_i] . [k_j, onehot(h_j), onehot(w_j)], and any attention kernel computes it, forward and
  backward, without an N x N bias. On a GPU, and wherever the code is traced, by PyTorch's; on the CPU
  for windows, where the additions take three times as long as the wider product in bfloat16, and as long in float32.
- added: on the CPU for whole maps, where the wider product takes longer than the additions (`chunked.py`), but for
  bfloat16 with AMX (`fused.py`).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders.chunked import chunked_attention, maps_at_a_time
from samseg.encoders.flash import WIDTHS
from samseg.encoders.folded import folded, folded_attention
from samseg.encoders.fused import fused_attention
from samseg.encoders.linear import Linear, is_tokenwise, runs_on_cpu
from samseg.encoders.lookup import lookup
from samseg.encoders.products import takes_amx
from samseg.encoders.windows import cut, join


class Attention(nn.Module):
    """Multi-head self-attention over (B, H, W, C) tokens.

    Args:
        width: channels C.
        heads: attention heads; C / heads channels each.
        window: side of the square windows attended to separately, in tokens; 0 attends to the whole map.
        table_size: side of the map that the relative positions were made for, in tokens.

    Attributes:
        adapter: None, or a module that reads the output, and whose own is added to it.
    """

    def __init__(self, width: int, heads: int, window: int, table_size: int):
        super().__init__()
        self.heads = heads
        self.window = window
        self.adapter = None
        self.head_width = width // heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * table_size - 1, self.head_width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * table_size - 1, self.head_width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.proj(self.over_map(self.qkv(x)) if self.window == 0 else self.in_windows(self.qkv(x)))
        if self.adapter is not None:
            out = out + self.adapter(out)
        return out

    @torch.jit.unused
    @property
    def rows_of_windows_apart(self) -> bool:
        """Whether what it gives for a row of windows depends on that row alone."""
        own = is_tokenwise(self.qkv, self.proj) and (self.adapter is None or is_tokenwise(self.adapter))
        return self.window > 0 and own

    def over_map(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3C) -> (B, H, W, C), every token attending to all others."""
        B, H, W, C3 = qkv.shape
        qkv = qkv.reshape(B, H, W, 3, self.heads, self.head_width).permute(3, 0, 4, 1, 2, 5)
        q, k, v = qkv.unbind(0)
        return self.attend(q, k, v).permute(0, 2, 3, 1, 4).reshape(B, H, W, C3 // 3)

    def in_windows(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3C) -> (B, H, W, C), every token attending to those of its window."""
        B, H, W, C3 = qkv.shape
        side = self.window
        if not torch.jit.is_scripting():
            if runs_on_cpu(qkv):
                return self.in_windows_on_cpu(qkv)
        rows, columns = (H + side - 1) // side, (W + side - 1) // side
        qkv = self.fill(qkv, rows * side, columns * side)
        windows = qkv.reshape(B, rows, side, columns, side, 3, self.heads, self.head_width)
        windows = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 3)
        q, k, v = windows.unbind(0)
        out = self.attend(q, k, v)
        out = out.reshape(B, rows, columns, self.heads, side, side, self.head_width)
        out = out.permute(0, 1, 4, 2, 5, 3, 6).reshape(B, rows * side, columns * side, C3 // 3)
        return out[:, :H, :W]

    @torch.jit.unused
    def in_windows_on_cpu(self, qkv: Tensor) -> Tensor:
        """The same with fewer copies."""
        _, H, W, _ = qkv.shape
        shape = (3, self.heads, self.head_width)
        windows = cut(qkv.unflatten(-1, shape), self.qkv.bias.to(qkv.dtype).view(shape), self.window)
        out = self.attend(*(one.flatten(0, 2) for one in windows)).reshape(windows[0].shape)
        return join(out, H, W).flatten(3)

    def fill(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """Extend (B, H, W, 3C) to whole windows with what SAM's padding tokens come to.

        SAM pads with zeros after the norm and before qkv, so the padding's q, k and v are the biases; they take part
        as keys and values and need no matrix product.
        """
        B, H, W, C3 = qkv.shape
        bias = self.qkv.bias.to(qkv.dtype)
        if width > W:  # each only where there is something to add: of nothing it would copy the map, too
            qkv = torch.cat([qkv, bias.expand(B, H, width - W, C3)], dim=2)
        if height > H:
            qkv = torch.cat([qkv, bias.expand(B, height - H, width, C3)], dim=1)
        return qkv

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of each (H, W) map to itself: q, k and v are (B, heads, H, W, d), and so is the result."""
        tables = self.relative_tables(q.shape[2], q.shape[3], q.dtype)
        if not torch.jit.is_scripting():
            if runs_on_cpu(q):
                return self.attend_on_cpu(q, k, v, tables)
        return folded_attention(q, k, v, *_relative_logits(q, *tables))

    @torch.jit.unused
    def attend_on_cpu(self, q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """As `attend`, of q, k and v (B, heads, H, W, d)."""
        B, heads, H, W, d = q.shape
        if H + W <= d:
            return _attended(*folded(q, k, *_relative_logits(q, *tables), WIDTHS if takes_amx(q) else 1), v)
        if torch.is_grad_enabled():
            return _attended(q, k, v, *_relative_logits(q, *tables))
        out = q.new_empty(B, H, W, heads, d).permute(0, 3, 1, 2, 4)
        together = maps_at_a_time()
        for image in range(B):
            for head in range(0, heads, together):  # copies of all would be half of the memory that a block takes
                few = (slice(image, image + 1), slice(head, head + together))
                out[few] = _attended(q[few], k[few], v[few], *_relative_logits(q[few], *tables))
        return out

    def relative_tables(self, H: int, W: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What each query row (or column) is multiplied with for each of the keys': (H, H, d) and (W, W, d)."""
        table_h, table_w = _relative_table(self.rel_pos_h, H), _relative_table(self.rel_pos_w, W)
        return (table_h * self.head_width**0.5).to(dtype), (table_w * self.head_width**0.5).to(dtype)


def _attended(q: Tensor, k: Tensor, v: Tensor, *row_and_col: Tensor) -> Tensor:
    """`chunked_attention` or `fused_attention` of (B, heads, H, W, any width) -> (B, heads, H, W, d)."""
    maps = [t.flatten(0, 1) for t in (q, k, v, *row_and_col)]
    if row_and_col and takes_amx(q):
        return fused_attention(*maps).view(v.shape)
    return chunked_attention(*(t.flatten(1, 2) for t in maps)).reshape(v.shape)


def _relative_logits(q: Tensor, table_h: Tensor, table_w: Tensor) -> tuple[Tensor, Tensor]:
    """Unscaled position terms of queries (B, heads, H, W, d) for each row of keys (.., H) and each column (.., W)."""
    return torch.einsum("bnhwd,hkd->bnhwk", q, table_h), torch.einsum("bnhwd,wkd->bnhwk", q, table_w)


def _relative_table(rel_pos: Tensor, size: int) -> Tensor:
    """Rows i - j of a (2 * size - 1, d) table as (size, size, d); a table of another size is resampled as timm does."""
    length = 2 * size - 1
    if rel_pos.shape[0] != length:
        resized = F.interpolate(rel_pos.float().t().unsqueeze(0), size=length, mode="linear")
        rel_pos = resized.squeeze(0).t().to(rel_pos.dtype)
    index = torch.arange(size, device=rel_pos.device)
    return lookup(rel_pos, index[:, None] - index[None, :] + size - 1)
