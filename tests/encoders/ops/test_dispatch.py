"""What the operators give by the routes of every kind of CPU against `reference.py` in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from samseg.encoders import ops
from samseg.encoders.ops import dispatch, reference
from samseg.encoders.ops.cpu import kinds, private
from tests.encoders.reference import relative_error
from tests.kinds import KINDS

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 0.03}


@pytest.fixture(params=KINDS)
def kind(request, cpu) -> str:
    cpu(request.param)
    return request.param


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def check(
    operator: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: dict[str, Tensor], dtype: torch.dtype
) -> None:
    """The operator without and with gradients, for each subset of one input and for all, against float64."""
    tolerance = TOLERANCE[dtype]
    inputs = {name: value.to(dtype) for name, value in inputs.items()}
    exact = {name: value.double() for name, value in inputs.items()}
    expected = plain(**exact)
    with torch.no_grad():
        assert relative_error(operator(**inputs).double(), expected) < tolerance
    d_out = numbers(*expected.shape).to(dtype)
    for trained in [[name] for name in inputs] + [list(inputs)]:
        ours = {name: value.detach().clone().requires_grad_(name in trained) for name, value in inputs.items()}
        wanted = {name: value.detach().clone().requires_grad_(name in trained) for name, value in exact.items()}
        out = operator(**ours)
        out.backward(d_out)
        plain(**wanted).backward(d_out.double())
        assert relative_error(out.double(), expected) < tolerance
        for name in inputs:
            assert (ours[name].grad is None) == (name not in trained)
            if name in trained:
                assert relative_error(ours[name].grad.double(), wanted[name].grad) < tolerance, name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("taken, given", [(24, 40), (40, 24), (20, 80), (80, 20)])
def test_linear(kind, dtype, taken, given):
    inputs = {"x": numbers(2, 3, 5, taken), "weight": numbers(given, taken), "bias": numbers(given)}
    check(ops.linear, reference.linear, inputs, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_mlp(kind, dtype):
    inputs = {"x": numbers(2, 3, 5, 24), "weight1": numbers(96, 24) / 5, "bias1": numbers(96)}
    check(ops.mlp, reference.mlp, inputs | {"weight2": numbers(24, 96) / 10, "bias2": numbers(24)}, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_embed_patches(kind, dtype):
    inputs = {"x": numbers(2, 3, 24, 16), "weight": numbers(10, 3, 8, 8), "bias": numbers(10)}
    check(ops.embed_patches, reference.embed_patches, inputs, dtype)


# Its sides sum to more than a head's width, to no more, and several windows.
@pytest.mark.parametrize("maps, H, W, d", [(1, 5, 6, 8), (2, 5, 3, 8), (7, 3, 3, 8)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention(kind, dtype, maps, H, W, d):
    inputs = dict(zip("qkv", numbers(3, maps, 3, H, W, d)))
    inputs |= {"table_h": numbers(H, H, d) / 5, "table_w": numbers(W, W, d) / 5}
    check(ops.attention, reference.attention, inputs, dtype)


@pytest.mark.parametrize("H, W", [(3, 3), (4, 8), (5, 9), (8, 3), (13, 6)])
def test_windows(H, W):
    x, padding = numbers(2, H, W, 3, 2, 4).double().requires_grad_(), numbers(3, 2, 4).double().requires_grad_()
    found = []
    for cut, join in (ops.cut_windows, ops.join_windows), (reference.cut_windows, reference.join_windows):
        q, k, v = cut(x, padding, 4)
        out = join(q + 2 * k.flip(2) + 3 * v.flip(3), H, W)
        d_out = numbers(*out.shape).double()
        found.append([q, k, v, out, *torch.autograd.grad(out, [x, padding], d_out, materialize_grads=True)])
    torch.testing.assert_close(*found)


def test_reference_attention_is_the_formula_logit_by_logit():
    B, heads, H, W, d = 2, 2, 3, 4, 5
    q, k, v = numbers(3, B, heads, H, W, d).double()
    table_h, table_w = numbers(H, H, d).double(), numbers(W, W, d).double()
    out = torch.zeros_like(q)
    for b, head, h, w in torch.cartesian_prod(*map(torch.arange, (B, heads, H, W))):
        query = q[b, head, h, w]
        logits = torch.zeros(H, W, dtype=torch.float64)
        for i, j in torch.cartesian_prod(torch.arange(H), torch.arange(W)):
            logits[i, j] = query @ k[b, head, i, j] / d**0.5 + query @ table_h[h, i] + query @ table_w[w, j]
        out[b, head, h, w] = torch.einsum("hw,hwd->d", logits.flatten().softmax(0).view(H, W), v[b, head])
    torch.testing.assert_close(reference.attention(q, k, v, table_h, table_w), out)


@pytest.mark.parametrize("operator", private.TRIED)
def test_without_a_private_operator_the_plain_route_is_taken(operator, cpu, monkeypatch):
    cpu("intel-amx")
    assert ops.missing_operators() == []
    monkeypatch.setitem(private.TRIED, operator, lambda: torch.ops.aten.no_such_operator)
    private.works.cache_clear()
    dispatch._usable.cache_clear()
    try:
        assert ops.missing_operators() == [operator]
        row = kinds.KERNELS["intel-amx", torch.bfloat16]
        found = dispatch.kernels_of(torch.bfloat16)
        if operator.startswith("mkldnn"):
            assert found.linear is not row.linear and found.gelu_of_linear is None and found.flash
        else:
            assert found.linear is row.linear and not found.flash
        test_mlp("intel-amx", torch.bfloat16)
        test_attention("intel-amx", torch.bfloat16, 1, 5, 6, 8)
    finally:
        monkeypatch.undo()
        private.works.cache_clear()
        dispatch._usable.cache_clear()


def test_a_private_operator_that_means_something_else_is_not_used(monkeypatch):
    monkeypatch.setattr(private.products, "linear_by_onednn", lambda x, weight, bias: -(x @ weight.t() + bias))
    private.works.cache_clear()
    try:
        assert not private.works("mkldnn._linear_pointwise")
    finally:
        private.works.cache_clear()
