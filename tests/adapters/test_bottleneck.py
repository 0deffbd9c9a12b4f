"""The bottleneck adapter against the block of Medical SAM Adapter, written out."""

import torch
import torch.nn.functional as F

from tests.adapters.conftest import small_model


def test_follows_attention_and_runs_beside_the_mlp():
    adapted, plain = (
        model.encoder.trunk.blocks[1] for model in (small_model("adapter", moved=True, ratio=0.5), small_model())
    )

    def bottleneck(adapter, x):
        hidden = F.gelu(x @ adapter.down.weight.T + adapter.down.bias)
        assert hidden.shape[-1] == 16
        return hidden @ adapter.up.weight.T + adapter.up.bias

    x = torch.randn(1, 5, 4, 32)
    attention = plain.attn(plain.norm1(x))
    y = x + attention + bottleneck(adapted.attn.adapter, attention)
    normed = plain.norm2(y)
    y = y + plain.mlp(normed) + 0.5 * bottleneck(adapted.mlp.adapter, normed)
    torch.testing.assert_close(adapted(x), y, rtol=1e-4, atol=1e-5)
