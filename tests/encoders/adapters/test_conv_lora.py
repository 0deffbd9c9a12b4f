"""Conv-LoRA against slow loops, an image at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from samseg.encoders.adapters.auxiliary import auxiliary_losses
from samseg.encoders.adapters.conv_lora import ConvLoRA, Gate
from tests.encoders.adapters.conftest import picture, small_model


@pytest.fixture
def layer() -> ConvLoRA:
    torch.manual_seed(0)
    layer = ConvLoRA(width=8, rank=2, alpha=6, experts=4)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def expected_of_one(layer: ConvLoRA, tokens: torch.Tensor, noise=None) -> tuple[torch.Tensor, int]:
    """(H, W, C) -> (H, W, 3C) by the formula, and the expert that was chosen."""
    height, width, _ = tokens.shape
    u = torch.einsum("rc,hwc->rhw", layer.a, tokens)
    mean = u.reshape(2, -1).mean(1)
    logits = mean @ layer.gate.weight
    if noise is not None:
        logits = logits + noise * (F.softplus(mean @ layer.gate.noise) + 0.01)
    logits = logits.tolist()
    shares = [math.exp(logit - max(logits)) for logit in logits]
    i = logits.index(max(logits))
    share = shares[i] / sum(shares)
    big = F.interpolate(u[None], size=(height * (i + 1), width * (i + 1)), mode="bicubic")
    big = F.gelu(F.conv2d(F.pad(big, (1, 1, 1, 1)), layer.weight[i], layer.bias[i]))
    small = F.interpolate(big, size=(height, width), mode="bicubic")[0]
    return 3 * torch.einsum("or,rhw->hwo", layer.b, u + share * small), i


def test_answers_by_the_formula(layer):
    layer.eval()
    x = torch.randn(16, 5, 6, 8)
    found = layer(x)
    chosen = set()
    for tokens, out in zip(x, found):
        expected, i = expected_of_one(layer, tokens)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        chosen.add(i)
    assert len(chosen) > 2  # else the comparison would be of few experts


def test_noise_of_torchs_global_generator_tries_other_experts(layer):
    x = torch.randn(16, 5, 6, 8)
    torch.manual_seed(3)
    noise = torch.randn(16, 4)
    torch.manual_seed(3)
    found = layer.train()(x)
    for tokens, out, drawn in zip(x, found, noise):
        torch.testing.assert_close(out, expected_of_one(layer, tokens, drawn)[0], rtol=1e-4, atol=1e-4)
    quiet = [expected_of_one(layer, tokens)[1] for tokens in x]
    assert quiet != [expected_of_one(layer, tokens, drawn)[1] for tokens, drawn in zip(x, noise)]


def test_the_task_teaches_the_gate(layer):
    """Also without the balance loss: the gate is multiplied into the output."""
    layer.eval()(torch.randn(4, 5, 6, 8)).square().mean().backward()
    assert layer.gate.weight.grad.abs().sum() > 0


def test_experts_that_are_not_chosen_get_a_gradient_of_zero(layer):
    x = torch.randn(1, 5, 6, 8)
    _, i = expected_of_one(layer, x[0])
    layer.eval()(x).square().mean().backward()
    idle = [j for j in range(4) if not layer.weight.grad[j].any() and not layer.bias.grad[j].any()]
    assert idle == [j for j in range(4) if j != i]


def test_a_graph_of_all_experts_answers_as_the_chosen_one_does(layer):
    layer.eval()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(6, 5, 6, 8)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-4, atol=1e-4)


def test_the_balance_loss_by_its_formula():
    torch.manual_seed(0)
    gate = Gate(rank=2, experts=3).train()
    nn.init.normal_(gate.weight)
    nn.init.normal_(gate.noise)
    u = torch.randn(5, 2, 4, 4)
    torch.manual_seed(1)
    noise = torch.randn(5, 3)
    torch.manual_seed(1)
    with auxiliary_losses() as collected:
        gates = gate(u)
    importance, load = [0.0] * 3, [0.0] * 3
    for image, drawn, given in zip(u, noise, gates):
        mean = image.reshape(2, -1).mean(1)
        clean, std = mean @ gate.weight, F.softplus(mean @ gate.noise) + 0.01
        noisy = clean + std * drawn
        for i in range(3):
            others = max(noisy[j].item() for j in range(3) if j != i)
            # P(clean_i + std_i * new noise > the best of the others)
            load[i] += 0.5 * (1 + math.erf(((clean[i] - others) / std[i]).item() / math.sqrt(2)))
            importance[i] += given[i].item()

    def cv_squared(values):
        mean = sum(values) / 3
        return sum((value - mean) ** 2 for value in values) / 2 / mean**2

    [loss] = collected
    assert loss.item() == pytest.approx(0.01 * (cv_squared(importance) + cv_squared(load)), rel=1e-4)


def test_each_block_hands_in_its_balance_in_training_alone():
    model = small_model("conv_lora", blocks=[0, 1, 3])
    with auxiliary_losses() as collected:
        model.eval()(picture())
        assert collected == []
        model.train()(picture())
    assert len(collected) == 3
    model(picture())
    assert len(collected) == 3  # nothing is kept outside


def test_experts_see_the_whole_map_across_windows():
    """A window is 3 tokens wide here: what happens at a token reaches its neighbours in the next window."""
    qkv = small_model("conv_lora", moved=True).encoder.trunk.blocks[0].attn.qkv
    nn.init.zeros_(qkv.adapter.gate.weight)  # else every token moves a little, through the gate
    x = torch.randn(1, 6, 6, 32)
    other = x.clone()
    other[0, 2, 2] += 1e-2
    moved = (qkv(other) - qkv(x)).abs().sum(-1)[0] > 1e-5
    assert moved[2, 3] and moved[3, 3] and not moved[5, 5]
