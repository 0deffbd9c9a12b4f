"""Every route of a matrix product on the CPU against PyTorch's linear layer in float64."""

import pytest
import torch
import torch.nn.functional as F

from samseg.encoders.linear import Linear
from tests.encoders.reference import relative_error


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("taken, given", [(24, 40), (40, 24)], ids=["wider", "narrower"])
def test_both_routes_equal_the_product_forward_and_backward(amx, dtype, tolerance, taken, given, monkeypatch):
    monkeypatch.setattr("samseg.encoders.products.cpu_has_amx", lambda: amx)
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
