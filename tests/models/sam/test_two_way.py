"""SAM's transformer and its masks, beside segment-anything's."""

import pytest
import torch
from segment_anything.modeling import MaskDecoder, TwoWayTransformer

from samseg.models.sam.sam1 import MaskDecoder1
from samseg.models.sam.steps import two_way_transformer
from samseg.models.sam.two_way import SharedTwoWay
from tests.encoders.reference import randomise


def pair(ours: type, theirs: type, **arguments) -> list[torch.nn.Module]:
    networks = [kind(**arguments) for kind in (ours, theirs)]
    randomise(networks[0], 0)
    networks[1].load_state_dict(networks[0].state_dict())
    return networks


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor], networks: list[torch.nn.Module]) -> None:
    """Equal outputs, and equal gradients of all parameters."""
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for outputs in (ours, theirs):
        sum((x * torch.linspace(-1, 1, x.shape[-1])).sum() for x in outputs).backward()
    for (name, one), other in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:  # zero but for rounding, of the keys' biases
            torch.testing.assert_close(
                one.grad, other.grad, rtol=1e-3, atol=1e-5 + 1e-3 * float(other.grad.abs().max())
            )


@pytest.mark.parametrize("images", [1, 3], ids=["one image", "an image each"])
def test_the_transformer(images):
    sizes = dict(depth=2, embedding_dim=32, mlp_dim=48, num_heads=4)
    networks = pair(SharedTwoWay, TwoWayTransformer, **sizes)
    generator = torch.Generator().manual_seed(1)
    image, positions, tokens = (
        torch.randn(*shape, generator=generator) for shape in ((images, 32, 5, 3), (1, 32, 5, 3), (3, 7, 32))
    )
    whole = (image.expand(3, -1, -1, -1), positions.expand(3, -1, -1, -1), tokens)
    assert_same(networks[0](image, positions, tokens), networks[1](*whole), networks)


def test_the_masks():
    networks = pair(MaskDecoder1, MaskDecoder, transformer_dim=256, transformer=two_way_transformer())
    generator = torch.Generator().manual_seed(1)
    embedding, positions, sparse, dense = (
        torch.randn(*shape, generator=generator)
        for shape in ((1, 256, 5, 3), (1, 256, 5, 3), (2, 3, 256), (2, 256, 5, 3))
    )
    ours, theirs = (network.predict_masks(embedding, positions, sparse, dense) for network in networks)
    assert_same(ours, theirs, networks)
