"""Building models: what SMP would swallow is said, what is frozen stays as it is."""

import pytest
import segmentation_models_pytorch as smp
import torch

import samseg
from samseg.config import ModelConfig, TrainConfig
from samseg.errors import ConfigError, WeightsError
from samseg.model import build_model
from samseg.trainable import count_parameters, parameter_groups


@pytest.mark.parametrize(
    "arch, depth", [("fpn", 3), ("fpn", 4), ("fpn", 5), ("pspnet", 3), ("pspnet", 4), ("pspnet", 5)]
)
@pytest.mark.parametrize("encoder", ["sam-vit_t", "resnet18"])
def test_answers_at_the_images_size_at_every_depth(arch, depth, encoder):
    model = samseg.create_model(arch, encoder, None, classes=2, encoder_depth=depth).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 2, 64, 96)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("unett", "sam-vit_b"), "unknown architecture 'unett'; did you mean 'unet'"),
        (("unet", "sam-vitb"), "unknown encoder 'sam-vitb'; did you mean 'sam-vit_b'"),
        (("unet", "tu-no_such_model"), "unknown encoder 'tu-no_such_model'"),
        (("dpt", "sam-vit_b"), "tu-samvit_base_patch16.sa1b"),
    ],
)
def test_unknown_names_are_errors(arguments, said):
    with pytest.raises(ConfigError, match="(?s)" + said.replace(".", r"\.")):
        samseg.create_model(*arguments, None)


def test_arguments_that_smp_drops_are_errors():
    smp.Unet("sam-vit_t", encoder_weights=None, decoder_chanels=[8] * 5)  # in silence
    with pytest.raises(ConfigError, match="did you mean 'decoder_channels'"):
        samseg.create_model("unet", "sam-vit_t", None, decoder_chanels=[8] * 5)
    with pytest.raises(ConfigError, match="images of any size"):
        samseg.create_model("unet", "sam-vit_t", None, img_size=512)
    with pytest.raises(ConfigError, match="cannot be built"):
        samseg.create_model("unet", "sam-vit_t", None, decoder_channels=[8, 8])


def test_unknown_weights_name_what_there_is(tmp_path):
    with pytest.raises(WeightsError, match="imagenet"):
        samseg.create_model("unet", "resnet18", "sa-1b")
    with pytest.raises(WeightsError, match="no such file"):
        samseg.create_model("unet", "sam-vit_t", tmp_path / "absent.pth")


def test_another_encoder_loads_from_a_file(tmp_path):
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    torch.save(encoder.state_dict(), tmp_path / "resnet.pth")
    model = samseg.create_model("unet", "resnet18", tmp_path / "resnet.pth")
    assert torch.equal(model.encoder.conv1.weight, encoder.conv1.weight)
    with pytest.raises(WeightsError, match="does not fit resnet34"):
        samseg.create_model("unet", "resnet34", tmp_path / "resnet.pth")


@pytest.mark.parametrize("encoder", ["sam-vit_t", "resnet18"])
def test_a_frozen_encoder_does_not_move(encoder):
    """Neither its weights nor BatchNorm's running statistics; all that is ours does."""
    model = build_model(ModelConfig(encoder=encoder, weights=None, freeze_encoder=True), classes=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(model, TrainConfig(lr=0.1, encoder_lr=0.1)))
    model.train()
    model(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    frozen = "encoder.trunk." if encoder == "sam-vit_t" else "encoder."
    for name, value in model.state_dict().items():
        if name.startswith(frozen):
            assert torch.equal(value, before[name]), f"{name} moved"
    trained = {name for name, parameter in model.named_parameters() if not name.startswith(frozen)}
    assert trained == {name for name in trained if not torch.equal(model.state_dict()[name], before[name])}


def test_count_names_what_trains():
    model = build_model(ModelConfig(encoder="sam-vit_t", weights=None, freeze_encoder=True), classes=2)
    line = count_parameters(model)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    assert f"trainable: {trainable:.1f} M of" in line
    assert "(pyramid, decoder, head)" in line and "frozen: SAM's encoder" in line


def test_groups_hold_every_trained_parameter_once():
    model = build_model(ModelConfig(encoder="sam-vit_t", weights=None, freeze_encoder=False), classes=2)
    groups = parameter_groups(model, TrainConfig(lr=1.0, encoder_lr=0.5, weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    grouped = [names[id(parameter)] for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(names.values())
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert group["lr"] == (0.5 if name.startswith("encoder.trunk.") else 1.0)
            decays = parameter.ndim > 1 and not name.endswith("attention_biases")
            assert group["weight_decay"] == (0.1 if decays else 0.0), name
