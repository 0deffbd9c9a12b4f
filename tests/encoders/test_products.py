"""Every route of a matrix product on the CPU against PyTorch's linear layer in float64."""

import pytest
import torch
import torch.nn.functional as F

from samseg.encoders.linear import Linear
from samseg.encoders.vit import MLP
from tests.encoders.reference import relative_error


@pytest.fixture(params=[False, True], ids=["without AMX", "with AMX"])
def routes(request, monkeypatch):
    """What goes by the routes of a CPU with AMX, or by the others."""
    monkeypatch.setattr("samseg.encoders.products.cpu_has_amx", lambda: request.param)
    if request.param and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN takes no bfloat16 on this CPU")


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("taken, given", [(24, 40), (40, 24), (20, 80), (80, 20)])
def test_both_routes_equal_the_product_forward_and_backward(routes, dtype, tolerance, taken, given):
    layer = Linear(taken, given).to(dtype)
    x, d_out = torch.randn(2, 3, 5, taken, dtype=dtype, requires_grad=True), torch.randn(2, 3, 5, given, dtype=dtype)
    out = layer(x)
    out.backward(d_out)
    exact = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
    expected = F.linear(*exact)
    expected.backward(d_out.double())
    assert relative_error(out.double(), expected) < tolerance
    for found, wanted in zip((x, layer.weight, layer.bias), exact, strict=True):
        assert relative_error(found.grad.double(), wanted.grad) < tolerance


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("trained", [("x", "lin1", "lin2"), ("x",), ("lin1",), ("lin2",)], ids="+".join)
def test_an_mlp_equals_the_plain_formula_forward_and_backward(routes, dtype, tolerance, trained):
    mlp = MLP(24, 96).to(dtype)
    x, d_out = torch.randn(2, 3, 5, 24, dtype=dtype), torch.randn(2, 3, 5, 24, dtype=dtype)
    tensors = {"x": x} | dict(mlp.named_parameters())
    for name, tensor in tensors.items():
        tensor.requires_grad_(name.startswith(trained))
    exact = {name: t.detach().double().requires_grad_(t.requires_grad) for name, t in tensors.items()}
    hidden = F.gelu(F.linear(exact["x"], exact["lin1.weight"], exact["lin1.bias"]))
    expected = F.linear(hidden, exact["lin2.weight"], exact["lin2.bias"])
    expected.backward(d_out.double())
    out = mlp(x)
    out.backward(d_out)
    with torch.no_grad():
        assert relative_error(mlp(x).double(), expected) < tolerance
    assert relative_error(out.double(), expected) < tolerance
    for name, tensor in tensors.items():
        assert (tensor.grad is None) == (not name.startswith(trained))
        if tensor.grad is not None:
            assert relative_error(tensor.grad.double(), exact[name].grad) < tolerance, name
