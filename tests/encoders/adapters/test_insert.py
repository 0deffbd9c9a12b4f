"""What every adapter owes: nothing changes at first, all of it learns, it comes out again without a trace."""

import copy
import pickle

import pytest
import torch

import samseg
from samseg.common.errors import ConfigError
from samseg.encoders.adapters.auxiliary import auxiliary_losses
from samseg.encoders.adapters.insert import adapter_name, adapter_parameters, is_adapter_tensor
from samseg.encoders.positions import resampled
from tests.encoders.adapters.conftest import picture, small_model


def gradients(model: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a loss of every pixel and the adapter's own, with the same noise at every call."""
    model.zero_grad()
    torch.manual_seed(2)
    with auxiliary_losses() as auxiliary:
        logits = model(x)
    (logits.float().square().mean() + sum(auxiliary)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class Embedding(torch.nn.Module):
    """The last of a trunk's taps."""

    def __init__(self, trunk: torch.nn.Module):
        super().__init__()
        self.trunk = trunk

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk(x)[-1]


@pytest.mark.parametrize("training", [False, True])
def test_is_the_identity_before_training(method, training):
    """To the bit with gradients; without, the plain encoder has a faster way that rounds otherwise."""
    plain, model = small_model().train(training), small_model(method).train(training)
    with torch.no_grad():
        torch.testing.assert_close(model(picture()), plain(picture()))
    plain.encoder.trunk.requires_grad_(True)
    assert torch.equal(model(picture()), plain(picture()))


def test_sams_tensors_keep_their_names_and_values(method):
    plain, model = small_model().state_dict(), small_model(method).state_dict()
    added = [name for name in model if is_adapter_tensor(name)]
    assert added and all(name.startswith("encoder.trunk.") for name in added)
    assert [name for name in model if name not in added] == list(plain)
    assert all(torch.equal(model[name], value) for name, value in plain.items())


def test_only_the_adapter_of_the_encoder_is_trained(method):
    model = small_model(method)
    adapters = {name for name in model.encoder.trunk.state_dict() if is_adapter_tensor(name)}
    for _ in range(2):
        assert adapters == {name for name, p in model.encoder.trunk.named_parameters() if p.requires_grad}
        samseg.freeze_encoder(model)  # leaves it as it is
    assert len(adapters) == len(list(adapter_parameters(model)))
    assert all(p.requires_grad for part in (model.encoder.pyramid, model.decoder) for p in part.parameters())


def test_a_step_of_training_moves_all_that_is_trained_and_nothing_else(method):
    model = small_model(method, moved=True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients(model, picture())
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    for name, value in model.state_dict().items():
        sams = name.startswith("encoder.trunk.") and not is_adapter_tensor(name)
        if sams:
            assert torch.equal(value, before[name]), f"{name} moved"
        else:
            assert not torch.equal(value, before[name]) or name.startswith("decoder."), f"{name} did not move"


def test_every_parameter_gets_a_gradient(method):
    """At the first step too, where it may be zero: plain DDP waits for each of them."""
    for moved in (False, True):
        model = small_model(method, moved).train()
        found = gradients(model, picture())
        for name, parameter in model.named_parameters():
            assert (name in found) == parameter.requires_grad, name
            if moved and parameter.requires_grad:
                assert found[name].abs().sum() > 0, name


def test_the_chosen_blocks_alone_get_one(method):
    """What the others give for an input is what they gave before, and the chosen ones' is not."""
    adapted = small_model(method, moved=True, blocks=[1, 4]).encoder.trunk
    plain = small_model().encoder.trunk
    outputs = []
    for block in adapted.blocks:
        block.register_forward_hook(lambda *call: outputs.append(call[-1]))
    adapted(picture())
    before = plain.patch_embed(picture()) + resampled(plain.pos_embed, 4, 6)
    changed = set()
    for i in range(5):  # the block with all that is done to its input
        if not torch.allclose(plain.blocks[i](before), outputs[i], atol=1e-5):
            changed.add(i)
        before = outputs[i]
    assert changed == {1, 4}


@pytest.mark.parametrize("training", [False, True])
def test_is_in_the_models_mode(method, training):
    model = samseg.remove_adapter(small_model(method)).train(training)
    samseg.add_adapter(model, method)
    assert all(module.training == training for module in model.modules())
    samseg.remove_adapter(model)
    assert not any(module.training for module in model.encoder.trunk.modules())


@pytest.mark.parametrize("training", [False, True])
def test_an_encoder_alone_takes_one_too(method, training):
    encoder = small_model().encoder
    assert samseg.add_adapter(encoder, method) is encoder and adapter_name(encoder) == method
    assert len(encoder.train(training)(picture())) == 6


def test_comes_out_without_a_trace(method):
    plain, model = small_model(), small_model(method, moved=True)
    assert not torch.allclose(model(picture()), plain(picture()), atol=1e-3)
    assert samseg.remove_adapter(model) is model
    assert torch.equal(model(picture()), plain(picture()))
    assert list(model.state_dict()) == list(plain.state_dict()) and str(model) == str(plain)
    with pytest.raises(ConfigError, match="no adapter to remove"):
        samseg.remove_adapter(model)
    samseg.add_adapter(model, "lora")  # and another may go in


def test_gradient_checkpointing_changes_no_gradient(method):
    model = small_model(method, moved=True).train()
    kept = gradients(model, picture())
    calls = []
    model.encoder.trunk.blocks[0].norm1.register_forward_hook(lambda *_: calls.append(1))
    model.encoder.trunk.gradient_checkpointing = True
    recomputed = gradients(model, picture())
    assert len(calls) == 2
    assert kept.keys() == recomputed.keys()
    for name in kept:
        torch.testing.assert_close(recomputed[name], kept[name])


def test_learns_under_bf16_autocast(method):
    model = small_model(method, moved=True).train()
    exact = gradients(model, picture())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(picture()).dtype == torch.bfloat16
        rounded = gradients(model, picture())
    for parameter in adapter_parameters(model):
        assert parameter.dtype == torch.float32
    assert rounded.keys() == exact.keys()
    for name in (name for name in exact if is_adapter_tensor(name)):
        assert rounded[name].isfinite().all()
        ours, theirs = rounded[name].flatten(), exact[name].flatten()
        assert torch.cosine_similarity(ours, theirs, dim=0) > 0.9, name


def test_half_precision_modules(method):
    model = small_model(method, moved=True)
    half = copy.deepcopy(model).to(torch.bfloat16)
    with torch.no_grad():
        expected, found = model(picture()), half(picture().bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() / expected.norm() < 0.1


def test_compiles_in_one_graph_with_the_same_gradients(method):
    few = {"experts": 2} if method == "conv_lora" else {}
    trunk = small_model(method, moved=True, blocks=[1], **few).train().encoder.trunk
    if trunk.adapter is None:
        part, x = trunk.blocks[1], torch.randn(2, 4, 6, 32)
    else:  # it is the trunk that calls it
        part, x = Embedding(trunk), picture()
    torch.compiler.reset()
    compiled = torch.compile(part, fullgraph=True, backend="aot_eager")
    expected, found = gradients(part, x), gradients(compiled, x)
    assert len(found) == len(expected)
    for (name, value), one in zip(expected.items(), found.values(), strict=True):
        # Compiled, bicubic resizing is decomposed and rounds otherwise.
        assert (one - value).norm() <= 1e-3 * value.norm() + 1e-6, name


def test_exports(method):
    encoder = small_model(method, moved=True, blocks=[1]).encoder
    program = torch.export.export(encoder, (picture(),))
    with torch.no_grad():
        for found, expected in zip(program.module()(picture()), encoder(picture())):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_can_be_copied_and_pickled(method):
    model = small_model(method, moved=True)
    with torch.no_grad():
        expected = model(picture())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(picture()), expected)


def test_a_state_dict_loads_into_another_of_its_kind(method):
    model = small_model(method, moved=True)
    other = small_model(method)
    other.load_state_dict(model.state_dict())
    other.encoder.load_state_dict(model.encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(other(picture()), model(picture()))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("lorra",), "must be one of lora, conv_lora, .*, got 'lorra'; did you mean 'lora'?"),
        (("lora", {"ranks": 4}), "lora: ranks is no argument of lora; did you mean 'rank'?"),
        (("lora", {"experts": 4}), "experts is no argument of lora; it takes blocks, rank, alpha"),
        (("lora", {"width": 4}), "width is no argument of lora"),
        (("lora", {"rank": 0}), "lora: rank must be at least 1, got 0"),
        (("lora", {"rank": "4"}), "lora: rank must be an integer, got '4'"),
        (("conv_lora", {"experts": 1}), "conv_lora: experts must be at least 2"),
        (("adapter", {"scale": 2.0}), "scale is no argument of adapter"),
        (("adapter", {"ratio": 0.001}), "must leave 1 of 32 channels or more, got 0.001"),
        (("lora", {"blocks": [5]}), r"must be some of 0 to 4, got \[5\]"),
        (("lora", {"blocks": []}), "lora: blocks must be indices of blocks"),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(arguments, said):
    model = small_model()
    name, keywords = (*arguments, {})[:2]
    with pytest.raises(ConfigError, match=said):
        samseg.add_adapter(model, name, **keywords)
    assert adapter_name(model) is None


def test_encoders_without_a_place_for_adapters_say_which_have_one():
    for encoder in ("sam-vit_t", "resnet18"):
        model = samseg.create_model("unet", encoder, None)
        with pytest.raises(ConfigError, match="takes no adapter; sam-vit_b, sam-vit_l, sam-vit_h"):
            samseg.add_adapter(model, "lora")


def test_a_second_adapter_is_refused():
    with pytest.raises(ConfigError, match=r"has an adapter already \(conv_lora\); .*remove_adapter"):
        samseg.add_adapter(small_model("conv_lora"), "lora")
