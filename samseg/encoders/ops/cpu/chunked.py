"""Attention on the CPU, a few logits at a time, forward and backward.

The N x N logits of a global block of ViT-B are 0.8 GB, and a pass over memory costs more than the arithmetic. Here the
logits of a few maps, or of a few rows of queries of one map, are made, turned into probabilities and used up while
they are in the cores' cache. Nothing of size N x N is kept: the backward pass makes them again.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from samseg.encoders.ops.cpu.flash import flash_attention
from samseg.encoders.ops.cpu.kinds import Kernels

LOGITS = 2**20  # of several maps at a time: 27 of SAM's windows, with more they leave the cache


def chunked_attention(
    q: Tensor, k: Tensor, v: Tensor, row: Tensor | None = None, col: Tensor | None = None, *, kernels: Kernels
) -> Tensor:
    """softmax(d**-0.5 (q k^T + row + col)) v for maps of N tokens; d is the width of v.

    Args:
        q, k: (maps, N, any width).
        v: (maps, N, d).
        row, col: (maps, N, H) and (maps, N, W) with H x W = N, what each query adds for the rows and columns of keys.
        kernels: what this CPU computes with in the tensors' type.

    Returns:
        (maps, N, d).
    """
    return _ChunkedAttention.apply(q, k, v, row, col, kernels)


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, row: Tensor | None, col: Tensor | None, kernels: Kernels
    ) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()  # or products would copy them for each chunk
        if row is None and kernels.flash:  # 13.5 ms instead of 17 for ViT-B's windows at 1024 px
            out, _ = flash_attention(q, k, v)
        else:
            out, room = torch.empty_like(v), _room(q, kernels)
            for maps, parts in _chunks(q, kernels):
                values = _filters(v[maps].transpose(1, 2), kernels)
                for part in parts:
                    out[part] = _times(_probabilities(q, k, row, col, v.shape[-1], part, room), values, kernels)
        ctx.save_for_backward(q, k, v, row, col, out)
        ctx.kernels = kernels
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        """With p the probabilities and s the logits: ds = p (dp - sum_j p dp), and that sum is d_out . out."""
        (q, k, v, row, col, out), kernels = ctx.saved_tensors, ctx.kernels
        d_out = d_out.contiguous()
        d_q, d_row, d_col = (None if x is None else torch.empty_like(x) for x in (q, row, col))
        d_k, d_v = (x.new_zeros(len(x), x.shape[2], x.shape[1]) for x in (k, v))  # transposed
        # dp less that sum is one product: of d_out and the negative sum with v and ones. With the logits' scale, too,
        # which all other gradients want.
        scale = v.shape[-1] ** -0.5
        d_out_and_mean = torch.cat([d_out, -(d_out * out).sum(-1, keepdim=True)], dim=-1).mul_(scale)
        v_and_ones = F.pad(v, [0, 1], value=1.0)
        room, other_room = _room(q, kernels), _room(q, kernels)
        for maps, parts in _chunks(q, kernels):
            keys = _filters(k[maps].transpose(1, 2), kernels)
            for part in parts:
                p = _probabilities(q, k, row, col, v.shape[-1], part, room)
                _add_outer(d_v[maps], d_out[part], p, kernels)
                d_logits = view_of(other_room, p.shape)
                torch.bmm(d_out_and_mean[part], v_and_ones[maps].transpose(1, 2), out=d_logits).mul_(p)
                d_q[part] = _times(d_logits, keys, kernels)
                _add_outer(d_k[maps], q[part], d_logits, kernels)
                if row is not None:
                    grid = d_logits.view(*p.shape[:2], row.shape[-1], col.shape[-1])
                    torch.sum(grid, -1, out=d_row[part])
                    torch.sum(grid, -2, out=d_col[part])
        return d_q, d_k.transpose(1, 2), d_v.transpose(1, 2), d_row, d_col, None


def _shape(q: Tensor, kernels: Kernels) -> tuple[int, int]:
    """How many maps and how many queries of each are a chunk: all queries of several maps, or some of one or a few."""
    maps, N, _ = q.shape
    return min(maps, max(kernels.maps_at_a_time(), LOGITS // N**2)), min(N, max(1, kernels.map_logits // N))


def _chunks(q: Tensor, kernels: Kernels) -> Iterator[tuple[slice, list[tuple[slice, slice]]]]:
    """Slices of the maps, each with its (maps, queries) slices."""
    together, queries = _shape(q, kernels)
    for first in range(0, len(q), together):
        maps = slice(first, first + together)
        yield maps, [(maps, slice(start, start + queries)) for start in range(0, q.shape[1], queries)]


def _room(q: Tensor, kernels: Kernels) -> Tensor:
    """Memory for the logits of a chunk. Made anew each time, its pages would cost as much as half a product."""
    together, queries = _shape(q, kernels)
    return q.new_empty(together * queries * q.shape[1])


def view_of(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The start of the room, as a tensor of that shape."""
    return room[: math.prod(shape)].view(shape)


def _probabilities(
    q: Tensor, k: Tensor, row: Tensor | None, col: Tensor | None, d: int, part: tuple[slice, slice], room: Tensor
) -> Tensor:
    """The softmax (maps, queries, N) of one chunk, in the `room`."""
    query, keys = q[part], k[part[0]].transpose(1, 2)
    logits = view_of(room, (*query.shape[:2], q.shape[1]))
    if row is not None:
        grid = logits.view(*query.shape[:2], row.shape[-1], col.shape[-1])
        torch.add(row[part].unsqueeze(-1), col[part].unsqueeze(-2), out=grid)
    logits.baddbmm_(query, keys, beta=0 if row is None else d**-0.5, alpha=d**-0.5)
    return torch.softmax(logits, -1, out=logits)


def _by_layers(x: Tensor, kernels: Kernels) -> bool:
    """Whether products with a small result go by the routes of linear layers.

    Logits are not a small result: by a convolution they would want fresh memory.
    """
    return kernels.map_by_layers and len(x) == 1


def _filters(x: Tensor, kernels: Kernels) -> Tensor:
    """(maps, d, N) as `_times` likes its second factor."""
    return x.contiguous() if _by_layers(x, kernels) else x


def _times(a: Tensor, b: Tensor, kernels: Kernels) -> Tensor:
    """(maps, M, N), (maps, d, N) -> a b^T (maps, M, d)."""
    return kernels.linear(a[0], b[0], None)[None] if _by_layers(a, kernels) else torch.bmm(a, b.transpose(1, 2))


def _add_outer(total: Tensor, a: Tensor, b: Tensor, kernels: Kernels) -> None:
    """total += a^T b for a (maps, M, d) and b (maps, M, N)."""
    if _by_layers(a, kernels):
        total += kernels.d_weight(a[0], b[0])
    else:
        total.baddbmm_(a.transpose(1, 2), b)
