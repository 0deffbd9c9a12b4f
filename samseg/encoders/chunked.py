"""Attention with relative positions on the CPU, a few logits at a time, forward and backward.

The N x N logits of a global block of ViT-B are 0.8 GB, and a pass over memory costs more than the arithmetic. Here the
logits of a few maps, or of a few rows of queries of one map, are made, turned into probabilities and used up in one
small buffer that stays in the cores' cache. Nothing of size N x N is kept: the backward pass makes them again.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_BYTES = 2**23  # of logits, worked on at a time by all cores together; fewer make the products slower


def chunked_attention(q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """softmax(scale q k^T + row + col) v for maps of H x W = N tokens, scale = d**-0.5.

    Args:
        q, k, v: (maps, N, d), contiguous.
        row, col: (maps, N, H) and (maps, N, W), the position terms of each query for the rows and columns of keys.

    Returns:
        (maps, N, d).
    """
    return _ChunkedAttention.apply(q, k, v, row, col)


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor) -> Tensor:
        out = torch.empty_like(q)
        for part, probabilities in _probabilities(q, k, row, col):
            torch.bmm(probabilities, v[part[0]], out=out[part])
        ctx.save_for_backward(q, k, v, row, col, out)
        return out

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, ...]:
        """With p the probabilities and s the logits: ds = p (dp - sum_j p dp), and that sum is d_out . out."""
        q, k, v, row, col, out = ctx.saved_tensors
        d_out = d_out.contiguous()
        d_q, d_row, d_col = torch.empty_like(q), torch.empty_like(row), torch.empty_like(col)
        d_k, d_v = torch.zeros_like(k), torch.zeros_like(v)
        scale = q.shape[-1] ** -0.5
        mean = (d_out * out).sum(-1, keepdim=True)
        buffer = torch.empty_like(_buffer(q))
        for part, p in _probabilities(q, k, row, col):
            maps = part[0]
            d_v[maps].baddbmm_(p.transpose(1, 2), d_out[part])
            d_logits = buffer.view(-1)[: p.numel()].view_as(p)
            torch.bmm(d_out[part], v[maps].transpose(1, 2), out=d_logits)
            d_logits.sub_(mean[part]).mul_(p)
            d_q[part] = torch.bmm(d_logits, k[maps]).mul_(scale)
            d_k[maps].baddbmm_(d_logits.transpose(1, 2), q[part], alpha=scale)
            grid = d_logits.view(*p.shape[:2], row.shape[-1], col.shape[-1])
            torch.sum(grid, -1, out=d_row[part])
            torch.sum(grid, -2, out=d_col[part])
        return d_q, d_k, d_v, d_row, d_col


def _buffer(q: Tensor) -> Tensor:
    """Room for the logits of one chunk: (maps at a time, queries at a time, N); either all queries or one map."""
    maps, N, _ = q.shape
    logits = max(1, CHUNK_BYTES // q.element_size())
    together = min(maps, max(1, logits // N**2))
    return q.new_empty(together, min(N, max(1, logits // (together * N))), N)


def _probabilities(q: Tensor, k: Tensor, row: Tensor, col: Tensor) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """The (maps, queries) slices of each chunk and its softmax (maps, queries, N), which the next chunk overwrites."""
    maps, N, d = q.shape
    buffer = _buffer(q)
    together, queries, _ = buffer.shape
    for first in range(0, maps, together):
        some = slice(first, first + together)
        keys = k[some].transpose(1, 2)
        for start in range(0, N, queries):
            part = (some, slice(start, start + queries))
            rows, columns = row[part], col[part]
            shape = (*rows.shape[:2], N)
            logits = buffer.view(-1)[: shape[0] * shape[1] * N].view(shape)
            grid = logits.view(*shape[:2], rows.shape[-1], columns.shape[-1])
            torch.add(rows.unsqueeze(-1), columns.unsqueeze(-2), out=grid)
            logits.baddbmm_(q[part], keys, alpha=d**-0.5)
            yield part, torch.softmax(logits, -1, out=logits)
