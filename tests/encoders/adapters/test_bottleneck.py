"""The bottleneck adapter against the block of Medical SAM Adapter, written out in plain products.

Its `AdapterBlock` has one adapter behind attention, with a skip connection of its own, and one beside the MLP at 0.5.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.encoders.vit import Block
from tests.encoders.adapters.conftest import small_model


def expected(block: Block, x: Tensor) -> Tensor:
    """What `AdapterBlock` makes of the tokens (B, H, W, C) with the weights of ``block``."""

    def linear(layer, x):
        return x @ layer.weight.T + layer.bias

    def norm(layer, x):
        spread = ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
        return (x - x.mean(-1, keepdim=True)) / (spread + 1e-6).sqrt() * layer.weight + layer.bias

    def bottleneck(adapter, x):
        hidden = F.gelu(linear(adapter.down, x))
        assert hidden.shape[-1] == 16
        return linear(adapter.up, hidden)

    attended = attention(block, norm(block.norm1, x))
    with_skip = attended + bottleneck(block.attn.adapter, attended)
    x = x + with_skip
    normed = norm(block.norm2, x)
    beside = bottleneck(block.mlp.adapter, normed)
    return x + linear(block.mlp.lin2, F.gelu(linear(block.mlp.lin1, normed))) + 0.5 * beside


def attention(block: Block, x: Tensor) -> Tensor:
    """SAM's attention over a whole map as loops over its queries, or over windows of 3 x 3 that fill it exactly."""
    attn = block.attn
    side = attn.window or max(x.shape[1:3])
    out = torch.empty_like(x)
    for top in range(0, x.shape[1], side):
        for left in range(0, x.shape[2], side):
            at = (slice(None), slice(top, top + side), slice(left, left + side))
            out[at] = over_window(attn, x[at])
    return out @ attn.proj.weight.T + attn.proj.bias


def over_window(attn, x: Tensor) -> Tensor:
    B, H, W, C = x.shape
    d = C // attn.heads
    q, k, v = (
        (x @ w.T + b).reshape(B, H * W, attn.heads, d) for w, b in zip(*(p.chunk(3) for p in attn.qkv.parameters()))
    )
    out = torch.empty(B, H * W, attn.heads, d)
    centre = len(attn.rel_pos_h) // 2
    for i in range(H * W):
        down = torch.tensor([i // W - j // W for j in range(H * W)])
        right = torch.tensor([i % W - j % W for j in range(H * W)])
        for head in range(attn.heads):
            query = q[:, i, head]
            logits = torch.einsum("bd,bjd->bj", query, k[:, :, head]) * d**-0.5
            logits = logits + query @ attn.rel_pos_h[centre + down].T + query @ attn.rel_pos_w[centre + right].T
            out[:, i, head] = torch.einsum("bj,bjd->bd", logits.softmax(-1), v[:, :, head])
    return out.reshape(B, H, W, C)


@pytest.mark.parametrize("number, size", [(0, (6, 3)), (1, (8, 8))], ids=["windowed", "global"])
def test_follows_attention_with_its_skip_and_runs_beside_the_mlp_at_half(number, size):
    model = small_model("adapter", moved=True, ratio=0.5)
    block = model.encoder.trunk.blocks[number]
    with torch.no_grad():
        for table in (block.attn.rel_pos_h, block.attn.rel_pos_w):
            table.normal_()
        x = torch.randn(2, *size, 32)
        torch.testing.assert_close(block(x), expected(block, x), rtol=1e-4, atol=1e-4)
