"""Relative positions as part of one product, so that any attention kernel computes SAM's attention.

For query i at (h_i, w_i) and key j at (h_j, w_j), SAM's logit is

    logit(i, j) = scale q_i . k_j  +  q_i . Rh[h_i - h_j]  +  q_i . Rw[w_i - w_j]

With row_i[h] = q_i . Rh[h_i - h] / scale (one number for each row of keys) and col_i[w] likewise, that is
scale (q_i . k_j + row_i[h_j] + col_i[w_j]). The last two terms are dot products with one-hot vectors, so the whole
logit is one, scale [q_i, row_i, col_i] . [k_j, onehot(h_j), onehot(w_j)], forward and backward without an N x N bias.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def folded_attention(
    q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor, widths: int = 1, one_width: bool = True
) -> Tensor:
    """softmax(d**-0.5 (q k^T + row + col)) v for maps of H x W tokens.

    Args:
        q, k, v: (B, heads, H, W, d).
        row, col: (B, heads, H, W, H) and (B, heads, H, W, W), what each query adds for the rows and columns of keys.
        widths: what the width of folded queries and keys is filled up to a multiple of.
        one_width: give the kernel values as wide as queries and keys.

    Returns:
        (B, heads, H, W, d).
    """
    d = q.shape[-1]
    query, key = folded(q, k, row, col, widths)
    value = v.flatten(2, 3)
    if one_width:
        value = F.pad(value, [0, query.shape[-1] - d])  # comes out as zeros and is cut off
    out = F.scaled_dot_product_attention(query.flatten(2, 3), key.flatten(2, 3), value, scale=d**-0.5)
    return out[..., :d].reshape(q.shape)


def position_logits(q: Tensor, table_h: Tensor, table_w: Tensor) -> tuple[Tensor, Tensor]:
    """What queries (B, heads, H, W, d) add for each row (..., H) and each column (..., W) of keys."""
    return torch.einsum("bnhwd,hkd->bnhwk", q, table_h), torch.einsum("bnhwd,wkd->bnhwk", q, table_w)


def folded(q: Tensor, k: Tensor, row: Tensor, col: Tensor, widths: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, heads, H, W, d + H + W) whose product is q k^T + row + col.

    Zeros make them wider, up to a multiple of `widths`.
    """
    B, heads, H, W, d = q.shape
    queries, keys = [q, row, col], [k, row_and_column(H, W, k).expand(B, heads, H, W, H + W)]
    if widths > 1:
        zeros = q.new_zeros(-(d + H + W) % widths).expand(B, heads, H, W, -1)
        queries.append(zeros)
        keys.append(zeros)
    return torch.cat(queries, dim=-1), torch.cat(keys, dim=-1)


def row_and_column(H: int, W: int, like: Tensor) -> Tensor:
    """(H, W, H + W): for each key the one-hot vectors of its row and its column."""
    at_row = torch.eye(H, dtype=like.dtype, device=like.device)[:, None].expand(H, W, H)
    at_column = torch.eye(W, dtype=like.dtype, device=like.device).expand(H, W, W)
    return torch.cat([at_row, at_column], dim=-1)
