"""What the operators compute, in plain PyTorch: valid on every device, and what all faster ways must equal."""

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.encoders.ops.layout import cropped


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., K), weight (N, K), bias (N,) or None -> (..., N)."""
    return F.linear(x, weight, bias)


def mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Two linear layers with a GELU between: x (..., C) -> (..., C)."""
    return F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)


def embed_patches(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer of each patch: x (B, 3, H, W), weight (C, 3, patch, patch) -> (B, H / patch, W / patch, C)."""
    # Contiguous, or what follows would keep the convolution's layout, and each norm and addition would copy.
    return F.conv2d(x, weight, bias, stride=weight.shape[2:]).permute(0, 2, 3, 1).contiguous()


def cut_windows(x: Tensor, padding: Tensor, side: int) -> tuple[Tensor, ...]:
    """A map of tokens (B, H, W, n, heads, d) -> its windows, n times (B * rows * columns, heads, side, side, d).

    Windows at the map's lower and right edges are filled up with the padding (n, heads, d).
    """
    B, H, W, n, heads, d = x.shape
    rows, columns = (H + side - 1) // side, (W + side - 1) // side
    if columns * side > W:  # each only where there is something to add: of nothing it would copy the map, too
        x = torch.cat([x, padding.expand(B, H, columns * side - W, n, heads, d)], dim=2)
    if rows * side > H:
        x = torch.cat([x, padding.expand(B, rows * side - H, columns * side, n, heads, d)], dim=1)
    windows = x.reshape(B, rows, side, columns, side, n, heads, d)
    return windows.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 3).unbind(0)


def join_windows(windows: Tensor, H: int, W: int) -> Tensor:
    """(B * rows * columns, heads, side, side, d) -> (B, H, W, heads, d), without what is beyond the edges."""
    _, heads, side, _, d = windows.shape
    rows, columns = (H + side - 1) // side, (W + side - 1) // side
    x = windows.reshape(-1, rows, columns, heads, side, side, d).permute(0, 1, 4, 2, 5, 3, 6)
    return cropped(x.reshape(-1, rows * side, columns * side, heads, d), H, W)


def attention(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """Attention of maps to themselves with decomposed relative positions (segment-anything, `add_decomposed_rel_pos`).

    logit(i, j) = d**-0.5 q_i . k_j + q_i . table_h[h_i, h_j] + q_i . table_w[w_i, w_j]

    Args:
        q, k, v: (B, heads, H, W, d).
        table_h, table_w: (H, H, d) and (W, W, d).

    Returns:
        (B, heads, H, W, d).
    """
    logits = torch.einsum("bnhwd,bnijd->bnhwij", q, k) * q.shape[-1] ** -0.5
    logits = logits + torch.einsum("bnhwd,hid->bnhwi", q, table_h).unsqueeze(-1)
    logits = logits + torch.einsum("bnhwd,wjd->bnhwj", q, table_w).unsqueeze(-2)
    probabilities = logits.flatten(4).softmax(-1).view_as(logits)
    return torch.einsum("bnhwij,bnijd->bnhwd", probabilities, v)


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(d**-0.5 q k^T) v of sequences (B, heads, N, d)."""
    return F.scaled_dot_product_attention(q, k, v)


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a learnt table (n, C), such as one of relative positions, at a tensor of indices: (*index.shape, C)."""
    return table[index]
