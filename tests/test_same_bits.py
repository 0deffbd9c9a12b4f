"""What learns, learns the same each time: losses and gradients to the bit, on several threads and beside a load."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from subprocess import Popen

import pytest
import torch
from torch import Tensor, nn

import samseg
from samseg.encoders.adapters.auxiliary import auxiliary_losses
from samseg.encoders.ops import lookup
from samseg.encoders.tinyvit import TinyViT
from samseg.encoders.vit import SamViT
from samseg.models.sam.prompts import LOSSES
from samseg.models.smp import ARCHITECTURES
from samseg.tasks.losses import LossConfig, SegmentationLoss, complete_loss
from samseg.tasks.promptable.losses import PromptLoss
from tests.encoders.adapters.conftest import method, small_model  # noqa: F401
from tests.encoders.conftest import SMALL
from tests.encoders.reference import randomise
from tests.models.sam.conftest import batch, small  # noqa: F401

SPIN = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
# A head as wide as SAM's whole image, so that the tables of few tokens have as many entries as those of ViT-B's many:
# PyTorch gives more than 32768 to several threads.
TRUNKS = {
    SamViT: dict(width=256, depth=4, heads=1, global_blocks=(0, 1, 2, 3), image_size=192, window=12),
    TinyViT: {},
}
SCENES = [(192, torch.float32), (128, torch.bfloat16)]
SIDES = {"pan": 128}  # of the images that a decoder takes no less than


@pytest.fixture(scope="module", autouse=True)
def load():
    """Two processes that spin beside four threads."""
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(4)
        for _ in range(2):
            process = stack.enter_context(Popen([sys.executable, "-S", "-c", SPIN]))  # which is waited for at the end
            stack.callback(process.kill)
        yield


def assert_repeats(module: nn.Module, loss: Callable[[], Tensor], times: int = 3) -> None:
    """The loss and the gradients of all that learns in the module have the same bits ``times`` times."""

    def once() -> dict[str, Tensor]:
        torch.manual_seed(0)
        module.zero_grad()
        with auxiliary_losses() as auxiliary:
            found = loss() + sum(auxiliary)
        found.backward()
        return {"loss": found.detach()} | {name: p.grad for name, p in module.named_parameters() if p.requires_grad}

    first = once()
    assert len(first) > 1
    for _ in range(times - 1):
        again = once()
        assert not [name for name, value in first.items() if not torch.equal(value, again[name])]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def labels(side: int) -> Tensor:
    mask = torch.randint(3, (2, side, side), generator=torch.Generator().manual_seed(3))
    mask[:, :5] = 255
    return mask


def test_lookup():
    table, part = nn.ParameterList([random(127, 64)]), random(64, 64, 64)
    apart = torch.arange(64)[:, None] - torch.arange(64)
    assert_repeats(table, lambda: (lookup(table[0], apart + 63) * part).sum(), times=25)


@pytest.mark.parametrize("side, precision", SCENES, ids=["own size", "resampled"])
@pytest.mark.parametrize("trunk", TRUNKS, ids=lambda trunk: trunk.__name__)
def test_encoders(trunk, side, precision):
    module, image = trunk(**TRUNKS[trunk]), random(1, 3, side, side)
    randomise(module)

    def loss() -> Tensor:
        with torch.autocast("cpu", precision, enabled=precision is not torch.float32):
            return sum(tap.float().square().mean() for tap in module(image))

    assert_repeats(module, loss)


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if arch != "dpt"])  # which takes timm's encoders only
def test_decoders(arch):
    model, image = samseg.create_model(arch, SMALL, None, classes=3).train(), random(2, 3, *[SIDES.get(arch, 64)] * 2)
    samseg.freeze_encoder(model)
    assert_repeats(model, lambda: model(image).square().mean())


def test_adapters(method):  # noqa: F811
    model, image = small_model(method, moved=True).train(), random(2, 3, 64, 64)
    assert_repeats(model, lambda: model(image).square().mean())


@pytest.mark.parametrize("name", [item.name for item in fields(LossConfig) if item.name != "class_weights"])
def test_losses(name):
    config, names = LossConfig(**{name: 1.0}, class_weights={"b": 3.0}), ["a", "b", "c"]
    complete_loss(config, names)
    loss, logits = SegmentationLoss(config, names), nn.ParameterList([random(2, 3, 160, 160)])
    assert_repeats(logits, lambda: loss(logits[0], labels(160)))


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_of_prompts(kind):
    loss, answers = PromptLoss(kind, iou=1.0), nn.ParameterList([random(3, 3, 128, 128), random(3, 3)])
    truth, valid = labels(128)[:1] == torch.arange(3)[:, None, None], labels(128)[0] < 255
    assert_repeats(answers, lambda: loss(answers[0], truth, valid, answers[1]).sum())


@pytest.mark.parametrize("settings", [{}, {"hq": True}, {"classes": 3, "none": 1.0}], ids=["sam", "hq", "no prompts"])
def test_prompts(settings, batch):  # noqa: F811
    model = small(rounds=1, **settings)

    def loss() -> Tensor:
        outputs = model(batch)
        return outputs.get("loss", outputs.get("logits")).sum() + outputs["nothing"]

    assert_repeats(model, loss)
