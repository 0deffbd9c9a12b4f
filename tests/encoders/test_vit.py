"""SAM's numbers: against segment-anything at the tables' own size, against timm's resampling elsewhere."""

import pytest
import torch

from samseg.encoders.registry import ROWS
from samseg.encoders.vit import SamViT
from tests.encoders.conftest import SMALL_ARGUMENTS
from tests.encoders.reference import randomise, relative_error, segment_anything_encoder, timm_encoder

SAM = {name: ROWS[name].arguments for name in ("sam-vit_b", "sam-vit_l", "sam-vit_h")}
# At full depth they cost minutes; a windowed block and a global one have all that differs.
SHORT = {name: arguments | dict(depth=2, global_blocks=(1,)) for name, arguments in SAM.items()}


def compare_with_segment_anything(arguments: dict, size: int, grad: bool) -> None:
    reference = segment_anything_encoder(**arguments)
    vit = SamViT(**arguments).eval()
    vit.load_state_dict(reference.state_dict())
    expected = []
    for i in arguments["global_blocks"]:
        reference.blocks[i].register_forward_hook(
            lambda module, args, output: expected.append(output.permute(0, 3, 1, 2))
        )
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected.append(reference(x))
    del reference
    with torch.set_grad_enabled(grad):
        taps = vit(x)
    assert len(taps) == len(expected)
    for found, wanted in zip(taps, expected):
        assert found.shape == wanted.shape
        assert relative_error(found.detach(), wanted) < 1e-5


@pytest.mark.parametrize("name", SAM)
def test_equals_segment_anything(name):
    """At the size of the position tables, which is smaller than SAM's own, for time."""
    compare_with_segment_anything(SHORT[name] | dict(image_size=512), 512, grad=False)


def test_equals_segment_anything_at_1024():
    """With two heads, for time: segment-anything takes 64 MiB a head for each matrix of attention."""
    compare_with_segment_anything(SHORT["sam-vit_b"] | dict(width=128, heads=2), 1024, grad=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAM)
def test_equals_segment_anything_at_1024_in_full(name):
    compare_with_segment_anything(SAM[name], 1024, grad=False)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("window", [1, 3, 4, 8, 14])
def test_equals_segment_anything_for_every_window(window, grad):
    compare_with_segment_anything(SMALL_ARGUMENTS | dict(window=window), 128, grad)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_bfloat16_is_no_further_from_float32_than_segment_anythings(grad):
    reference = segment_anything_encoder(**SMALL_ARGUMENTS)
    vit = SamViT(**SMALL_ARGUMENTS)
    vit.load_state_dict(reference.state_dict())
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(grad):
        exact = reference(x).detach()
        ours = vit.bfloat16()(x.bfloat16())[-1].detach()
        theirs = reference.bfloat16()(x.bfloat16()).detach()
    assert ours.dtype == torch.bfloat16
    assert relative_error(ours.float(), exact) <= relative_error(theirs.float(), exact)


def test_gradients_equal_segment_anything():
    reference = segment_anything_encoder(**SMALL_ARGUMENTS)
    vit = SamViT(**SMALL_ARGUMENTS)
    vit.load_state_dict(reference.state_dict())
    x = torch.randn(2, 3, 128, 128)
    weights = torch.randn(2, 256, 8, 8)
    (reference(x) * weights).sum().backward()
    (vit(x)[-1] * weights).sum().backward()
    for name, parameter in reference.named_parameters():
        assert relative_error(vit.get_parameter(name).grad, parameter.grad) < 1e-4, name


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (96, 160), (160, 96), (48, 256), (240, 144)])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_other_sizes_resample_as_timm_does(size, grad):
    reference = timm_encoder(**SMALL_ARGUMENTS)
    vit = SamViT(**SMALL_ARGUMENTS).eval()
    vit.load_state_dict({k.replace("mlp.fc", "mlp.lin"): v for k, v in reference.state_dict().items()})
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = reference.forward_features(x)
    with torch.set_grad_enabled(grad):
        assert relative_error(vit(x)[-1].detach(), expected) < 1e-5


def test_checkpointing_recomputes_blocks_and_changes_no_gradient():
    vit = SamViT(**SMALL_ARGUMENTS).train()
    randomise(vit)
    calls = []
    for block in vit.blocks:
        block.norm1.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 3, 96, 80)
    gradients = []
    for vit.gradient_checkpointing in (False, True):
        vit.zero_grad()
        sum(tap.square().mean() for tap in vit(x)).backward()
        gradients.append([parameter.grad.clone() for parameter in vit.parameters()])
    assert len(calls) == 15  # once, and twice
    for kept, recomputed in zip(*gradients):
        torch.testing.assert_close(recomputed, kept)
    calls.clear()
    vit.eval()(x)[-1].mean().backward()
    assert len(calls) == 5  # in evaluation nothing is recomputed


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_tokens_lie_one_after_the_other(grad):
    """In any other layout each norm and addition copies: a quarter of the time of training in bfloat16."""
    vit = SamViT(**SMALL_ARGUMENTS)
    with torch.set_grad_enabled(grad):
        taps = vit(torch.randn(1, 3, 128, 128))[:-1]
    assert taps and all(tap.permute(0, 2, 3, 1).is_contiguous() for tap in taps)
