"""The fast ways of computing attention against the formula written out."""

import pytest
import torch

from samseg.encoders.attention import RelativeAttention
from samseg.encoders.ops import dispatch, reference
from samseg.encoders.ops.cpu import chunked, fused
from samseg.encoders.ops.cpu.kinds import Kernels
from samseg.encoders.ops.folded import folded_attention, position_logits
from tests.encoders.reference import randomise, relative_error
from tests.feigned_gpu import feigned_gpu


def written_out(module: RelativeAttention, x: torch.Tensor) -> torch.Tensor:
    """SAM's attention over whole maps, every logit one by one, in float64."""
    module, x = module.double(), x.double()
    B, H, W, C = x.shape
    d = C // module.heads
    q, k, v = module.qkv(x).reshape(B, H * W, 3, module.heads, d).unbind(2)
    out = torch.zeros(B, H * W, module.heads, d, dtype=torch.float64)
    for i in range(H * W):
        for head in range(module.heads):
            logits = torch.zeros(B, H * W, dtype=torch.float64)
            for j in range(H * W):
                query = q[:, i, head]
                logits[:, j] = (query * k[:, j, head]).sum(-1) * d**-0.5
                logits[:, j] += query @ module.rel_pos_h[i // W - j // W + H - 1]
                logits[:, j] += query @ module.rel_pos_w[i % W - j % W + W - 1]
            out[:, i, head] = torch.einsum("bn,bnc->bc", logits.softmax(-1), v[:, :, head])
    return module.proj(out.reshape(B, H, W, C))


@pytest.mark.parametrize("logits", [1, 75, 2**20])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_equals_the_formula(logits, grad, monkeypatch):
    monkeypatch.setattr(chunked, "LOGITS", logits)
    monkeypatch.setattr(dispatch, "kernels_of", lambda dtype: Kernels(map_logits=logits))
    module = RelativeAttention(width=12, heads=2, window=0, table_size=5)
    randomise(module)
    x = torch.randn(2, 5, 5, 12)
    with torch.set_grad_enabled(grad):
        found = module(x).detach()
    with torch.no_grad():
        assert relative_error(found.double(), written_out(module, x)) < 1e-6


@pytest.mark.parametrize("tile", [2, 3, 32, None])  # keys in tiles of four shapes, in two, in one larger, all at once
@pytest.mark.parametrize("logits", [1, 75, 2**20])  # a query at a time, a few and fewer at the end, all at once
def test_fused_attention_equals_the_formula_with_all_gradients(logits, tile, monkeypatch):
    monkeypatch.setattr(fused, "LOGITS", logits)
    if tile is not None:
        monkeypatch.setattr(fused, "LARGE", 1)
        monkeypatch.setattr(fused, "TILE", tile)
    monkeypatch.setattr(Kernels, "maps_at_a_time", lambda self: 2)
    torch.manual_seed(0)
    maps, H, W, d = 3, 3, 5, 8
    shapes = [(maps, H, W, width) for width in (d, d, d, H, W)]
    inputs = [(2 * torch.randn(shape)).bfloat16().requires_grad_() for shape in shapes]
    d_out = torch.randn(maps, H, W, d).bfloat16()
    found = fused.fused_attention(*inputs, kernels=Kernels())
    gradients = torch.autograd.grad(found, inputs, d_out)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    q, k, v, row, col = (x.flatten(1, 2) for x in exact)
    logits = d**-0.5 * (q @ k.transpose(1, 2) + row.repeat_interleave(W, -1) + col.repeat(1, 1, H))
    expected = (logits.softmax(-1) @ v).view(maps, H, W, d)
    assert relative_error(found.double(), expected) < 0.005
    for gradient, exact_gradient in zip(gradients, torch.autograd.grad(expected, exact, d_out.double())):
        assert relative_error(gradient.double(), exact_gradient) < 0.015


def test_padding_takes_part_as_keys():
    """SAM pads windows with tokens whose keys and values are the biases; leaving them out gives other numbers."""
    module = RelativeAttention(width=8, heads=1, window=4, table_size=4)
    randomise(module)
    x = torch.randn(1, 3, 3, 8)
    whole = RelativeAttention(width=8, heads=1, window=0, table_size=4)
    whole.load_state_dict(module.state_dict())
    padded = torch.nn.functional.pad(x, (0, 0, 0, 1, 0, 1))
    with torch.no_grad():
        torch.testing.assert_close(module(x), whole(padded)[:, :3, :3])
        assert not torch.allclose(module(x), whole(x), atol=1e-3)


@pytest.mark.parametrize("one_width", [True, False], ids=["values as wide", "values narrow"])
@pytest.mark.parametrize("widths", [1, 8])
def test_folded_attention_equals_the_formula_with_all_gradients(widths, one_width):
    torch.manual_seed(0)
    B, heads, H, W, d = 2, 2, 3, 5, 8
    q, k, v = (torch.randn(B, heads, H, W, d, dtype=torch.float64, requires_grad=True) for _ in range(3))
    tables = [torch.randn(side, side, d, dtype=torch.float64, requires_grad=True) for side in (H, W)]
    row, col = position_logits(q, *(table * d**0.5 for table in tables))
    found = folded_attention(q, k, v, row, col, widths, one_width)
    expected = reference.attention(q, k, v, *tables)
    assert relative_error(found, expected) < 1e-12
    d_out = torch.randn_like(expected)
    gradients = (torch.autograd.grad(out, [q, k, v, *tables], d_out) for out in (found, expected))
    for gradient, exact_gradient in zip(*gradients, strict=True):
        assert relative_error(gradient, exact_gradient) < 1e-12


@pytest.mark.parametrize(
    "dtype, side, widths",  # pixels a side; of queries and keys, and of values
    [
        (torch.bfloat16, 1024, (192, 192)),
        (torch.float16, 1008, (192, 192)),
        (torch.bfloat16, 1536, (256, 256)),
        (torch.bfloat16, 1552, (264, 64)),
        (torch.bfloat16, 2048, (320, 64)),
        (torch.float32, 1008, (192, 64)),
    ],
)
def test_on_a_gpu_widths_are_those_of_its_kernels(dtype, side, widths, monkeypatch):
    given, kernel = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "torch.nn.functional.scaled_dot_product_attention",
        lambda *args, **kwargs: given.append([x.shape[-1] for x in args]) or kernel(*args, **kwargs),
    )
    n = side // 16
    with feigned_gpu(), torch.no_grad():
        q, k, v = torch.empty(3, 1, 2, n, n, 64, dtype=dtype, device="cuda")
        tables = [torch.empty(n, n, 64, device="cuda") for _ in range(2)]
        assert dispatch.attention(q, k, v, *tables).shape == q.shape
    assert given == [[widths[0], *widths]]
