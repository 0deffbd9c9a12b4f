"""Attention over whole maps in bfloat16 where the CPU has AMX, whose products cost less than passes over memory.

All that a product can do is left to one. The relative positions are folded into the logits' (`attention.py`); on the
way back so is what makes exp alone give probabilities, and the sums over rows and columns of keys are part of the
queries' gradient. ViT-B's 12 heads of 64 x 64 tokens take 125 ms forward where `chunked.py` takes 175, and 320 ms
backward instead of 425. Errors against float32 are smaller, too, for the logits of the forward pass are float32.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from samseg.encoders.chunked import maps_at_a_time, view_of
from samseg.encoders.folded import places, query_parts

LOGITS = 2**21  # of a map at a time in the backward pass: 512 queries of 64 x 64 keys, with fewer products are slower


def fused_attention(q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """As `chunked_attention` with row and col, of bfloat16; q, k and v are all (maps, N, d)."""
    return _FusedAttention.apply(q, k, v, row, col)


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, row: Tensor, col: Tensor) -> Tensor:
        """By PyTorch's kernel, one map at a time for the copies it wants: one width, so the values' end is zeros."""
        maps, N, d = v.shape
        query, key, value = (q.new_zeros(1, 1, N, d + row.shape[-1] + col.shape[-1]) for _ in range(3))
        key[..., d:] = places(row.shape[-1], col.shape[-1], k).flatten(0, 1)
        out = q.new_empty(maps, N, d)
        logsumexp = torch.empty(maps, N, device=q.device)
        for i in range(maps):
            torch.cat(query_parts(q[i], row[i], col[i]), dim=-1, out=query[0, 0])
            key[..., :d], value[..., :d] = k[i], v[i]
            values, logsumexp[i] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, scale=d**-0.5
            )
            out[i] = values[..., :d]
        ctx.save_for_backward(q, k, v, row, col, out, logsumexp)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, ...]:
        """With s the logits, p = exp(s - logsumexp) and ds = p (dp - d_out . out), each (maps, keys, queries).

        That way round keys are the rows of four of the five products, which then need not reorder their larger factor.
        A map for each core, or one core would wait for what lies in the other's cache.
        """
        q, k, v, row, col, out, logsumexp = ctx.saved_tensors
        maps, N, d = v.shape
        scale, widths = d**-0.5, [d, row.shape[-1], col.shape[-1]]
        d_query = q.new_empty(maps, sum(widths), N)
        d_k, d_v = q.new_zeros(maps, N, d), q.new_zeros(maps, N, d)
        together, queries = maps_at_a_time(), min(N, max(1, LOGITS // N))
        room, other_room = (q.new_empty(min(maps, together) * N * queries) for _ in range(2))
        key, value = (x.new_ones(min(maps, together), N, width + 2) for x, width in ((k, sum(widths)), (v, d)))
        key[..., d:-2] = places(row.shape[-1], col.shape[-1], k).flatten(0, 1)
        key_t = key[..., :-2].transpose(1, 2).contiguous()
        for first in range(0, maps, together):
            of = slice(first, first + together)
            q_of, d_out_of = q[of].contiguous(), d_out[of].contiguous()  # or products would copy them for each part
            query = torch.cat([*query_parts(q_of, row[of], col[of]), _halves(-logsumexp[of] / scale)], dim=-1)
            d_value = torch.cat([d_out_of, _halves(-(d_out_of.float() * out[of]).sum(-1))], dim=-1)
            key, key_t, value = (x[: len(query)] for x in (key, key_t, value))  # the last maps may be fewer
            key[..., :d], key_t[:, :d], value[..., :d] = k[of], k[of].transpose(1, 2), v[of]
            for start in range(0, N, queries):
                few = slice(start, start + queries)
                shape = (len(query), N, query[:, few].shape[1])
                p, d_logits = view_of(room, shape), view_of(other_room, shape)
                torch.baddbmm(p, key, query[:, few].transpose(1, 2), beta=0, alpha=scale / math.log(2), out=p).exp2_()
                d_v[of].baddbmm_(p, d_out_of[:, few])
                torch.bmm(value, d_value[:, few].transpose(1, 2), out=d_logits).mul_(p)
                d_k[of].baddbmm_(d_logits, q_of[:, few])
                d_query[of, :, few] = torch.bmm(key_t, d_logits)
        d_q, d_row, d_col = d_query.transpose(1, 2).split(widths, dim=-1)
        return d_q * scale, d_k.mul_(scale), d_v, d_row, d_col


def _halves(x: Tensor) -> Tensor:
    """Float32 numbers (...) as bfloat16 (..., 2) whose sum is within 2**-17 of them."""
    high = x.bfloat16()
    return torch.stack([high, (x - high).bfloat16()], dim=-1)
