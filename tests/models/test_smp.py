"""Building models: what SMP would swallow is said, what is frozen stays as it is."""

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.optim import param_groups_layer_decay

import samseg
from samseg.common.errors import ConfigError, WeightsError
from samseg.models.build import build_model
from samseg.models.config import ModelConfig
from samseg.models.smp import check_image_size
from samseg.models.trainable import checkpoint_gradients, count_parameters, parameter_groups
from tests.encoders.conftest import SMALL, SMALL_ARGUMENTS, SMALL_SAM3
from tests.encoders.reference import timm_encoder

SETTINGS = {"lr": 3e-4, "encoder_lr": 3e-5, "pyramid_lr": 3e-4, "weight_decay": 0.01}


@pytest.mark.parametrize(
    "arch, depth", [("fpn", 3), ("fpn", 4), ("fpn", 5), ("pspnet", 3), ("pspnet", 4), ("pspnet", 5)]
)
@pytest.mark.parametrize("encoder", ["sam-vit_t", "resnet18"])
def test_answers_at_the_images_size_at_every_depth(arch, depth, encoder):
    model = samseg.create_model(arch, encoder, None, classes=2, encoder_depth=depth).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 96)).shape == (1, 2, 64, 96)


@pytest.mark.parametrize("arch", ["unet", "fpn"])
@pytest.mark.parametrize("kind, other", [("amd-avx2", "intel-amx"), ("intel-amx", "amd-avx2")])
def test_gives_what_smp_gives_whatever_the_memory_layout(arch, kind, other, cpu):
    cpu(kind)
    torch.manual_seed(0)
    plain = smp.create_model(arch, "sam-vit_t", None, classes=2).eval()
    model = samseg.create_model(arch, "sam-vit_t", None, classes=2).eval()
    model.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps, expected = plain.encoder(image), plain(image)
        cpu(other)
        torch.testing.assert_close(model(image), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.encoder(image), maps, rtol=1e-3, atol=1e-4)
    assert maps[-1].is_contiguous(memory_format=torch.channels_last) == (kind == "intel-amx")


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
    model = build_model(ModelConfig(encoder=encoder, weights=None, freeze_encoder=True), classes=2).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(model, **SETTINGS | dict(lr=0.1, encoder_lr=0.1, pyramid_lr=0.1)))
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
    model = build_model(ModelConfig(encoder="sam-vit_t", weights=None, freeze_encoder=True), classes=2).model
    line = count_parameters(model)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6
    assert f"trainable: {trainable:.1f} M of" in line
    assert "(pyramid, decoder, head)" in line and "frozen: encoder" in line


def test_groups_hold_every_trained_parameter_once():
    model = build_model(ModelConfig(encoder="sam-vit_t", weights=None, freeze_encoder=False), classes=2).model
    groups = parameter_groups(model, **SETTINGS | dict(lr=1.0, encoder_lr=0.5, pyramid_lr=2.0, weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    grouped = [names[id(parameter)] for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(names.values())
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            rates = {"encoder.trunk.": 0.5, "encoder.pyramid.": 2.0, "": 1.0}
            assert group["lr"] == next(lr for prefix, lr in rates.items() if name.startswith(prefix))
            decays = parameter.ndim > 1 and not name.endswith("attention_biases")
            assert group["weight_decay"] == (0.1 if decays else 0.0), name


def rates(model, settings: dict) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter that is trained."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, **SETTINGS | settings)
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_layer_decay_by_hand():
    model = build_model(ModelConfig(encoder=SMALL, weights=None, freeze_encoder=False), classes=2).model  # five blocks
    config = dict(lr=1.0, encoder_lr=0.1, pyramid_lr=2.0, layer_decay=0.5, weight_decay=0.3)
    expected = {
        "encoder.trunk.pos_embed": (0.1 / 64, 0),
        "encoder.trunk.patch_embed.proj.weight": (0.1 / 64, 0.3),
        "encoder.trunk.patch_embed.proj.bias": (0.1 / 64, 0),
        "encoder.trunk.blocks.0.attn.qkv.weight": (0.1 / 32, 0.3),
        "encoder.trunk.blocks.0.attn.rel_pos_h": (0.1 / 32, 0),
        "encoder.trunk.blocks.3.norm1.weight": (0.1 / 4, 0),
        "encoder.trunk.blocks.4.mlp.lin2.weight": (0.1 / 2, 0.3),
        "encoder.trunk.neck.0.weight": (0.1, 0.3),
        "encoder.trunk.neck.3.bias": (0.1, 0),
        "encoder.pyramid.levels.0.norm.weight": (2.0, 0),
        "encoder.pyramid.levels.1.context.weight": (2.0, 0.3),
        "segmentation_head.0.weight": (1.0, 0.3),
        "segmentation_head.0.bias": (1.0, 0),
    }
    found = rates(model, config)
    for name, rate_and_decay in expected.items():
        assert found[name] == pytest.approx(rate_and_decay), name
    assert found.keys() == dict(model.named_parameters()).keys()


def test_layer_decay_is_timms():
    reference = timm_encoder(**SMALL_ARGUMENTS)
    model = build_model(ModelConfig(encoder=SMALL, weights=None, freeze_encoder=False), classes=2).model
    names = {id(parameter): name for name, parameter in reference.named_parameters()}
    found = rates(model, dict(encoder_lr=1.0, pyramid_lr=1.0, layer_decay=0.7))
    compared = 0
    for group in param_groups_layer_decay(reference, layer_decay=0.7):
        for parameter in group["params"]:
            name = names[id(parameter)].replace("mlp.fc", "mlp.lin")
            compared += 1
            assert found[f"encoder.trunk.{name}"][0] == pytest.approx(group["lr_scale"]), name
    assert compared == len(list(model.encoder.trunk.parameters()))


@pytest.mark.parametrize("encoder, named", [("sam-vit_t", "sam-vit_t"), ("resnet18", "ResNetEncoder")])
def test_what_an_encoder_cannot_do_is_said(encoder, named):
    model = build_model(ModelConfig(encoder=encoder, weights=None, freeze_encoder=False), classes=2).model
    with pytest.raises(ConfigError, match=f"layer_decay=0.5 is for sam-vit_b, sam-vit_l, sam-vit_h.*, not for {named}"):
        parameter_groups(model, **SETTINGS | dict(layer_decay=0.5))
    with pytest.raises(ConfigError, match=f"{encoder} takes no adapter; sam-vit_b, sam-vit_l, sam-vit_h"):
        build_model(ModelConfig(encoder=encoder, adapter={"name": "lora"}), classes=2)  # before any download


def test_checkpointing_is_set_where_there_is_something_to_set():
    model = build_model(ModelConfig(encoder=SMALL, weights=None, freeze_encoder=False), classes=2).model
    checkpoint_gradients(model)
    assert model.encoder.trunk.gradient_checkpointing
    other = build_model(ModelConfig(encoder="resnet18", weights=None, freeze_encoder=False), classes=2).model
    with pytest.raises(ConfigError, match="ResNetEncoder cannot compute its blocks again, sam-vit_b, "):
        checkpoint_gradients(other)


def test_an_adapter_is_put_in_counted_and_trained_at_lr():
    adapter = {"name": "lora", "rank": 2, "alpha": 6.0, "blocks": [1, 2]}
    model = build_model(ModelConfig(encoder=SMALL, weights=None, adapter=adapter), classes=2).model
    lora = model.encoder.trunk.blocks[2].attn.qkv.adapter
    assert lora.a.shape == (4, 32) and lora.scale == 3
    assert "(lora, pyramid, decoder, head); frozen: encoder" in count_parameters(model)
    found = rates(model, dict(lr=1.0, encoder_lr=0.5, pyramid_lr=2.0, weight_decay=0.1))
    assert found["encoder.trunk.blocks.1.attn.qkv.adapter.b_q"] == (1.0, 0.1)
    assert len([name for name in found if ".trunk." in name]) == 6


def test_sizes_that_decoder_and_encoder_both_take_are_named():
    """SAM 3's own side of 1008 pixels is a multiple of its patches' 14, and not of SMP's 32."""
    model = samseg.create_model("fpn", SMALL_SAM3, None)
    with pytest.raises(ConfigError, match="a multiple of 224 for FPN, got 1008; try 896 or 1120"):
        check_image_size(model, 1008)
    for size in (896, 1120):
        check_image_size(model, size)
    check_image_size(samseg.create_model("unet", SMALL_SAM3, None), 1008)
