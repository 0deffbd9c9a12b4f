"""Inference on a CPU cuts maps into stripes; it gives the numbers of the whole map whatever has been put in."""

import pytest
import torch
from torch import Tensor, nn

from samseg.encoders import ops
from samseg.encoders.adapters.adapter import Adapter
from samseg.encoders.adapters.methods import METHODS
from samseg.encoders.vit import Block
from tests.encoders.adapters.conftest import small_model

PLACES = ("attn.qkv", "attn", "mlp")


class Mixing(Adapter):
    """Every token is given the mean of all."""

    def __init__(self, width: int, *, out: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(out * width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2), keepdim=True).expand_as(x)
        return self.weight * mean.repeat(1, 1, 1, len(self.weight) // x.shape[-1])


def with_method(monkeypatch, method: type[Adapter], **arguments) -> nn.Module:
    monkeypatch.setitem(METHODS, "mixing", method)
    return small_model("mixing", moved=True, **arguments)


def mixing(place: str, tokenwise: bool) -> type[Adapter]:
    """A method that mixes tokens, and declares whether it looks at one token at a time."""
    out = 3 if place == "attn.qkv" else 1
    return type("Mixing", (Mixing,), {"sites": {place: {}}, "tokenwise": tokenwise, "__init__": _init(out)})


def _init(out: int):
    def __init__(self, width: int):
        Mixing.__init__(self, width, out=out)

    return __init__


def maps() -> Tensor:
    """More tokens than a stripe, and more rows than a window; windows are 3 tokens wide, so the last are filled up."""
    x = (
        torch.randn(1, 37, 32, 32, generator=torch.Generator().manual_seed(5))
        + torch.linspace(-1, 1, 37)[:, None, None]
    )
    with torch.no_grad():
        assert x.shape[1] * x.shape[2] > ops.tokens_at_a_time(x)
    return x


def differs(block: Block) -> bool:
    """Whether a block's output without gradients is another than with them."""
    x = maps()
    whole = block(x).detach()
    with torch.no_grad():
        return (block(x) - whole).norm().item() > 1e-5 * whole.norm().item()


@pytest.mark.parametrize("block", [0, 1], ids=["windowed", "global"])
def test_a_trained_adapter_gives_the_same_in_stripes(method, block):
    model = small_model(method, moved=True)
    assert not differs(model.encoder.trunk.blocks[block])


def test_the_whole_encoder_gives_the_same_in_stripes(method):
    trunk = small_model(method, moved=True).encoder.trunk
    image = torch.randn(1, 3, 37 * 16, 32 * 16, generator=torch.Generator().manual_seed(6))
    taps = trunk(image)
    with torch.no_grad():
        for found, wanted in zip(trunk(image), taps):
            assert (found - wanted).norm() < 1e-4 * wanted.norm()


@pytest.mark.parametrize("block", [0, 1], ids=["windowed", "global"])
@pytest.mark.parametrize("place", PLACES)
def test_one_that_mixes_tokens_is_handed_the_whole_map(monkeypatch, place, block):
    model = with_method(monkeypatch, mixing(place, tokenwise=False))
    assert not differs(model.encoder.trunk.blocks[block])


@pytest.mark.parametrize("block, place", [(0, "attn.qkv"), (0, "attn"), (0, "mlp"), (1, "mlp")])
def test_the_sweep_sees_a_false_declaration(monkeypatch, place, block):
    """Attention in a global block is never cut, so there it does no harm."""
    model = with_method(monkeypatch, mixing(place, tokenwise=True))
    assert differs(model.encoder.trunk.blocks[block])


def test_what_declares_nothing_is_not_cut():
    """As a layer that another library has put in."""

    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module):
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + x.mean((1, 2), keepdim=True)

    for number, name in ((0, "attn"), (0, "mlp"), (1, "mlp")):
        block = small_model().encoder.trunk.requires_grad_(True).blocks[number]
        setattr(block, name, Wrapped(getattr(block, name)))
        assert not differs(block)
