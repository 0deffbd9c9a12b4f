"""Attention over whole maps in bfloat16 where the CPU has AMX, whose products cost less than passes over memory.

All that a product can do is left to one. The relative positions are folded into the logits' (`folded.py`); on the
way back so is what makes exp alone give probabilities, and the sums over rows and columns of keys are part of the
queries' gradient. ViT-B's 12 heads of 64 x 64 tokens take 120 ms forward where `chunked.py` takes 175, and 320 ms
backward instead of 425. Errors against float32 are smaller, too, for the logits of the forward pass are float32.
"""

import functools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from samseg.encoders.ops.cpu.chunked import view_of
from samseg.encoders.ops.cpu.flash import WIDTHS, flash_attention
from samseg.encoders.ops.cpu.kinds import Kernels
from samseg.encoders.ops.folded import row_and_column

# Keys of a large map are attended to in tiles of this side and the results joined, or the folded positions would grow
# with the map: at 128 x 128 tokens queries would be 320 wide instead of 128, and it would take 1.7 times as long.
TILE = 32
LARGE = 48 * 64  # tokens; up to this many the whole map is quicker
LOGITS = 2**21  # of a map at a time in the backward pass: 512 queries of 64 x 64 keys, with fewer products are slower


def fused_attention(q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor, *, kernels: Kernels) -> Tensor:
    """softmax(d**-0.5 (q k^T + row + col)) v for maps of H x W tokens, in bfloat16.

    Args:
        q, k, v: (maps, H, W, d).
        row, col: (maps, H, W, H) and (maps, H, W, W), what each query adds for the rows and columns of keys.
        kernels: what this CPU computes with in bfloat16.

    Returns:
        (maps, H, W, d).
    """
    return _FusedAttention.apply(q, k, v, row, col, kernels.maps_at_a_time())


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor, together: int) -> Tensor:
        """By PyTorch's kernel, a few maps at a time for the copies it wants."""
        maps, H, W, d = v.shape
        out, logsumexp = q.new_empty(maps, H * W, d), q.new_empty(maps, H * W, dtype=torch.float32)
        for first in range(0, maps, together):
            of = slice(first, first + together)
            out[of], logsumexp[of] = functools.reduce(_joined, _by_tiles(q[of], k[of], v[of], row[of], col[of]))
        ctx.save_for_backward(q, k, v, row, col, out, logsumexp)
        ctx.together = together
        return out.view(v.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, ...]:
        """With s the logits, p = exp(s - logsumexp) and ds = p (dp - d_out . out), each (maps, keys, queries).

        That way round keys are the rows of four of the five products, which then need not reorder their larger factor.
        A map for each core, or one core would wait for what lies in the other's cache.
        """
        q, k, v, row, col, out, logsumexp = ctx.saved_tensors
        maps, H, W, d = v.shape
        N = H * W
        scale, widths = d**-0.5, [d, H, W]
        d_query = q.new_empty(maps, sum(widths), N)
        d_k, d_v = q.new_zeros(maps, N, d), q.new_zeros(maps, N, d)
        together, queries = ctx.together, min(N, max(1, LOGITS // N))
        room, other_room = (q.new_empty(min(maps, together) * N * queries) for _ in range(2))
        key, value = (x.new_ones(min(maps, together), N, width + 2) for x, width in ((k, sum(widths)), (v, d)))
        key[..., d:-2] = row_and_column(H, W, k).flatten(0, 1)
        key_t = key[..., :-2].transpose(1, 2).contiguous()
        for first in range(0, maps, together):
            of = slice(first, first + together)
            # Contiguous, or products would copy them for each part.
            q_of, d_out_of, row_of, col_of = (x[of].contiguous().flatten(1, 2) for x in (q, d_out, row, col))
            query = torch.cat([q_of, row_of, col_of, _halves(-logsumexp[of] / scale)], dim=-1)
            d_value = torch.cat([d_out_of, _halves(-(d_out_of.float() * out[of]).sum(-1))], dim=-1)
            d_value *= scale  # which all gradients but that of the values want
            key, key_t, value = (x[: len(query)] for x in (key, key_t, value))  # the last maps may be fewer
            k_of, v_of = k[of].flatten(1, 2), v[of].flatten(1, 2)
            key[..., :d], key_t[:, :d], value[..., :d] = k_of, k_of.transpose(1, 2), v_of
            for start in range(0, N, queries):
                few = slice(start, start + queries)
                shape = (len(query), N, query[:, few].shape[1])
                p, d_logits = view_of(room, shape), view_of(other_room, shape)
                torch.baddbmm(p, key, query[:, few].transpose(1, 2), beta=0, alpha=scale / math.log(2), out=p).exp2_()
                d_v[of].baddbmm_(p, d_out_of[:, few])
                torch.bmm(value, d_value[:, few].transpose(1, 2), out=d_logits).mul_(p)
                d_k[of].baddbmm_(d_logits, q_of[:, few])
                d_query[of, :, few] = torch.bmm(key_t, d_logits)
        d_q, d_row, d_col = d_query.view(maps, -1, H, W).movedim(1, -1).split(widths, dim=-1)
        return d_q, d_k.view(v.shape), d_v.view(v.shape), d_row, d_col, None


def _by_tiles(q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Attention to the keys of each tile alone (maps, N, d), and the logsumexp of its logits (maps, N)."""
    maps, H, W, d = q.shape
    tall, wide = (TILE, TILE) if H * W > LARGE else (H, W)
    width = -(-(d + tall + wide) // WIDTHS) * WIDTHS
    query = q.new_zeros(maps, H, W, width)
    _write(query, q)
    place = row_and_column(tall, wide, k)
    for top in range(0, H, tall):
        _write(query[..., d:], row[..., top : top + tall])
        for left in range(0, W, wide):
            _write(query[..., d + tall :], col[..., left : left + wide])
            keys, values = (x[:, top : top + tall, left : left + wide] for x in (k, v))
            _, h, w, _ = keys.shape
            key = k.new_zeros(maps, h, w, width)  # zeros also where a smaller tile leaves some of the query
            _write(key, keys)
            _write(key[..., d:], place[:h, :w])
            yield flash_attention(*(x.flatten(1, 2) for x in (query, key, values)))


def _write(to: Tensor, x: Tensor) -> None:
    to[..., : x.shape[-1]] = x


def _joined(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention to the keys of both, in float32, and its logsumexp."""
    (out, logsumexp), (other_out, other_logsumexp) = one, other
    share = torch.sigmoid(other_logsumexp - logsumexp)[..., None]
    return torch.lerp(out.float(), other_out.float(), share), torch.logaddexp(logsumexp, other_logsumexp)


def _halves(x: Tensor) -> Tensor:
    """Float32 numbers (...) as bfloat16 (..., 2) whose sum is within 2**-17 of them."""
    high = x.bfloat16()
    return torch.stack([high, (x - high).bfloat16()], dim=-1)
