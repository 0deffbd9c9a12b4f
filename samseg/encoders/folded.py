"""Attention whose relative positions are part of one product, by PyTorch's kernels: see `attention.py`."""

import torch
import torch.nn.functional as F
from torch import Tensor


def folded_attention(q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """softmax(d**-0.5 (q k^T + row + col)) v for maps of H x W tokens.

    Args:
        q, k, v: (B, heads, H, W, d).
        row, col: (B, heads, H, W, H) and (B, heads, H, W, W), what each query adds for the rows and columns of keys.

    Returns:
        (B, heads, H, W, d).
    """
    d = q.shape[-1]
    query, key = folded(q, k, row, col)
    # Fused kernels want one width for q, k and v. The values' padding comes out as zeros and is cut off.
    value = F.pad(v.flatten(2, 3), [0, row.shape[-1] + col.shape[-1]])
    out = F.scaled_dot_product_attention(query.flatten(2, 3), key.flatten(2, 3), value, scale=d**-0.5)
    return out[..., :d].reshape(q.shape)


def folded(q: Tensor, k: Tensor, row: Tensor, col: Tensor, widths: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, heads, H, W, d + H + W) whose product is q k^T + row + col.

    Zeros make them wider, up to a multiple of `widths`.
    """
    B, heads, H, W, d = q.shape
    queries, keys = [q, row, col], [k, places(H, W, k).expand(B, heads, H, W, H + W)]
    if widths > 1:
        zeros = q.new_zeros(-(d + H + W) % widths).expand(B, heads, H, W, -1)
        queries.append(zeros)
        keys.append(zeros)
    return torch.cat(queries, dim=-1), torch.cat(keys, dim=-1)


def places(H: int, W: int, like: Tensor) -> Tensor:
    """(H, W, H + W): for each key the one-hot vectors of its row and its column."""
    at_row = torch.eye(H, dtype=like.dtype, device=like.device)[:, None].expand(H, W, H)
    at_column = torch.eye(W, dtype=like.dtype, device=like.device).expand(H, W, W)
    return torch.cat([at_row, at_column], dim=-1)
