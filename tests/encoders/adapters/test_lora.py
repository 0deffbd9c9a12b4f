"""LoRA's arithmetic, by hand."""

import math

import pytest
import torch
from torch import nn

import samseg
from samseg.common.errors import ConfigError
from samseg.encoders.adapters.insert import adapter_name
from samseg.encoders.adapters.lora import LoRA
from samseg.encoders.linear import Linear
from tests.encoders.adapters.conftest import picture, small_model


def test_updates_queries_and_values_by_the_formula():
    lora = LoRA(width=8, rank=2, alpha=6)
    nn.init.normal_(lora.b_q)
    nn.init.normal_(lora.b_v)
    x = torch.randn(3, 8)
    found = lora(x)
    for token, out in zip(x, found):
        q, k, v = out.split(8)
        torch.testing.assert_close(q, 3 * (lora.b_q @ (lora.a[:2] @ token)))
        torch.testing.assert_close(v, 3 * (lora.b_v @ (lora.a[2:] @ token)))
        assert not k.any()


def test_starts_as_the_paper_says():
    lora = LoRA(width=1000, rank=4)
    assert not lora.b_q.any() and not lora.b_v.any() and lora.scale == 1
    bound = 1 / math.sqrt(1000)  # Kaiming-uniform with a = sqrt 5
    assert lora.a.abs().max() <= bound and lora.a.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("arguments", [{}, {"rank": 16, "alpha": 32, "blocks": [0, 2]}])
def test_merges_into_a_plain_network_with_the_same_output(arguments):
    model = small_model("lora", moved=True, **arguments)
    with torch.no_grad():
        expected = model(picture())
        plain = samseg.merge_adapter(model)
        torch.testing.assert_close(plain(picture()), expected, rtol=1e-5, atol=1e-5)
    assert list(plain.state_dict()) == list(small_model().state_dict())
    assert all(type(block.attn.qkv) is Linear for block in plain.encoder.trunk.blocks)
    assert adapter_name(plain) is None
    assert not any(p.requires_grad for p in plain.encoder.trunk.parameters())


def test_merging_adds_the_matrix_that_the_formula_gives():
    model, plain = small_model("lora", moved=True, rank=2, alpha=6), small_model()
    lora = model.encoder.trunk.blocks[0].attn.qkv.adapter
    before = plain.encoder.trunk.blocks[0].attn.qkv.weight
    samseg.merge_adapter(model)
    delta = model.encoder.trunk.blocks[0].attn.qkv.weight - before
    torch.testing.assert_close(delta[:32], 3 * lora.b_q @ lora.a[:2])
    assert not delta[32:64].any()
    torch.testing.assert_close(delta[64:], 3 * lora.b_v @ lora.a[2:])


def test_a_merged_one_comes_out_again_bit_for_bit():
    model, plain = small_model("lora", moved=True), small_model().state_dict()
    samseg.remove_adapter(samseg.merge_adapter(model))
    assert list(model.state_dict()) == list(plain)
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())


def test_merged_twice_comes_out_to_sams_weights():
    model, plain = small_model("lora", moved=True), small_model().state_dict()
    samseg.merge_adapter(model)
    samseg.add_adapter(model, "lora", blocks=[1])
    nn.init.normal_(model.encoder.trunk.blocks[1].attn.qkv.adapter.b_q)
    samseg.remove_adapter(samseg.merge_adapter(model))
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("adapter", [None, "conv_lora", "adapter"])
def test_what_cannot_be_merged_says_so(adapter):
    with pytest.raises(ConfigError, match=f"only a lora adapter can be merged .* is {adapter or 'none'}"):
        samseg.merge_adapter(small_model(adapter))
