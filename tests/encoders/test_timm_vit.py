"""DINOv2, DINOv3, Perception Encoder and other plain ViTs of timm's: numbers, files, and what cannot be cut."""

from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

import samseg
from samseg.common.errors import ConfigError, WeightsError
from samseg.encoders import ROWS, register
from samseg.encoders.encoder import TrunkEncoder
from samseg.encoders.fetch import load_sam_weights
from samseg.encoders.registry import timm_row
from samseg.encoders.timm_vit import TimmViT
from samseg.encoders.weights import contents, trunk_state
from tests.encoders.reference import randomise, relative_error

SMALL_ARGUMENTS = dict(embed_dim=32, depth=4, num_heads=2)
SIZES = [(64, 64), (48, 112), (128, 96)]  # the positions' own, and two others


@pytest.fixture
def rows(monkeypatch):
    """rows(name, of, timm's name, **arguments): a small relative of a row, which knows the same layouts."""

    def make(name: str, of: str, architecture: str, **arguments) -> str:
        arguments = dict(name=architecture) | SMALL_ARGUMENTS | arguments
        monkeypatch.setitem(ROWS, name, replace(ROWS[of], arguments=arguments))
        return name

    return make


def randomised(module: nn.Module) -> nn.Module:
    randomise(module)
    return module.eval()


def dinov3(gated: bool) -> nn.Module:
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, intermediate_size=88 if gated else 128, num_hidden_layers=4, num_attention_heads=2,
        num_register_tokens=4, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu", key_bias=False,
    )  # fmt: skip
    return randomised(transformers.DINOv3ViTModel(config))


def dinov2(gated: bool) -> nn.Module:
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=48 if gated else 32, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        use_swiglu_ffn=gated,
    )  # fmt: skip
    return randomised(transformers.Dinov2WithRegistersModel(config))


FAMILIES = {
    "DINOv3": (dinov3, False, "dinov3-vit_b", "vit_small_patch16_dinov3_qkvb", {}),
    "DINOv3, gated": (dinov3, True, "dinov3-vit_h+", "vit_small_plus_patch16_dinov3_qkvb", {"mlp_ratio": 2.75}),
    "DINOv2": (dinov2, False, "dinov2-vit_b", "vit_small_patch14_reg4_dinov2", {"img_size": 56}),
    "DINOv2, gated": (
        dinov2, True, "dinov2-vit_g", "vit_giant_patch14_reg4_dinov2", {"img_size": 56, "embed_dim": 48},
    ),
}  # fmt: skip


def normed_intermediates(reference: nn.Module, x: Tensor) -> list[Tensor]:
    """As DINO's `get_intermediate_layers` gives them, of all four blocks, as maps."""
    norm = reference.norm if hasattr(reference, "norm") else reference.layernorm
    with torch.no_grad():
        states = reference(x, output_hidden_states=True).hidden_states[1:]
    patch = reference.config.patch_size
    size = x.shape[2] // patch, x.shape[3] // patch
    return [norm(state)[:, 5:].unflatten(1, size).permute(0, 3, 1, 2) for state in states]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_numbers_as_transformers_from_its_own_file(family, rows, tmp_path):
    make, gated, of, architecture, arguments = FAMILIES[family]
    reference = make(gated)
    encoder = TrunkEncoder(rows("small", of, architecture, **arguments)).eval()
    reference.save_pretrained(tmp_path)  # in the names that the hub has
    load_sam_weights(encoder, tmp_path / "model.safetensors")
    assert contents(load_file(tmp_path / "model.safetensors")).layout == "transformers"
    patch = reference.config.patch_size
    for H, W in SIZES:
        x = torch.randn(2, 3, H, W)
        with torch.no_grad():
            maps = encoder.taps(x)
        if patch == 14:
            x = F.interpolate(x, size=(H // 16 * 14, W // 16 * 14), mode="bilinear")
        for ours, theirs in zip(maps, normed_intermediates(reference, x), strict=True):
            assert relative_error(ours, theirs) < 1e-5


DINOS_NAMES = (
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("embeddings.patch_embeddings.", "patch_embed.proj."),
    ("position_embeddings", "pos_embed"),
    ("embeddings.", ""),
    ("encoder.layer.", "blocks."),
    ("layer.", "blocks."),
    ("layernorm.", "norm."),
    ("attention.output.dense", "attn.proj"),
    ("attention.o_proj", "attn.proj"),
    ("attention.attention.query", "attn.qkv"),
    ("attention.q_proj", "attn.qkv"),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("weights_in", "w12"),
    ("weights_out", "w3"),
    ("gate_proj", "w1"),
)


def in_dinos_names(state: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    """transformers' tensors as DINO's own repositories file them."""
    own, third = {}, family.startswith("DINOv3")
    up, down = ("w2", "w3") if any("gate_proj" in name for name in state) else ("fc1", "fc2")
    for name, value in state.items():
        if any(part in name for part in ("k_proj", "v_proj", ".key.", ".value.")):
            continue
        if "q_proj" in name or ".query." in name:
            keys, values = (name.replace("q_proj", f"{p[0]}_proj").replace("query", p) for p in ("key", "value"))
            masked = torch.full_like(value, 7.0)  # DINOv3's bias of the keys, which a mask of zeros silences
            value = torch.cat([value, state.get(keys, masked), state[values]])
        for theirs, its in DINOS_NAMES:
            name = name.replace(theirs, its)
        name = name.replace("up_proj", up).replace("down_proj", down)
        name = name.replace("register_tokens", "storage_tokens") if third else name
        own[name] = value
        if third and name.endswith("qkv.bias"):
            own[name.replace("bias", "bias_mask")] = torch.ones_like(value)
    return own | ({"rope_embed.periods": torch.ones(4, dtype=torch.bfloat16)} if third else {})


@pytest.mark.parametrize("family", FAMILIES)
def test_dinos_own_file_gives_the_same_network(family, rows, tmp_path):
    make, gated, of, architecture, arguments = FAMILIES[family]
    make(gated).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    name = rows("small", of, architecture, **arguments)
    own = in_dinos_names(state, family)
    assert (contents(own).variant, contents(own).layout) == ("small", family.partition(",")[0])
    torch.save(own, tmp_path / "dino.pth")
    loaded = []
    for file in ("dino.pth", "model.safetensors"):
        loaded.append(TrunkEncoder(name))
        load_sam_weights(loaded[-1], tmp_path / file)
    for (name, one), other in zip(loaded[0].trunk.state_dict().items(), loaded[1].trunk.state_dict().values()):
        assert torch.equal(one, other), name
    own.pop("norm.bias")
    torch.save(own, tmp_path / "dino.pth")
    with pytest.raises(WeightsError, match="lacks net.norm.bias"):
        load_sam_weights(loaded[0], tmp_path / "dino.pth")


@pytest.mark.parametrize(
    "architecture, arguments",
    [
        ("vit_small_patch16_dinov3", {}),
        ("vit_pe_spatial_small_patch16_512", {"img_size": 64, "ref_feat_shape": (4, 4)}),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 56}),
        ("vit_base_patch16_siglip_512", {"img_size": 64}),
        ("vit_base_patch8_224", {"img_size": 32}),
        ("aimv2_large_patch14_224", {"img_size": 56}),
        ("eva02_small_patch14_224", {"img_size": 56}),
        ("vit_base_patch16_rope_mixed_224", {"img_size": 64}),
    ],
)
def test_the_same_numbers_as_timm_from_its_own_file(architecture, arguments):
    net = timm.create_model(architecture, **SMALL_ARGUMENTS, **arguments, dynamic_img_size=True)
    reference = randomised(net)
    trunk = TimmViT(architecture, **SMALL_ARGUMENTS, **arguments).eval()
    state = {f"net.{name}": value for name, value in reference.state_dict().items()}
    trunk.load_state_dict({name: value for name, value in state.items() if name not in trunk.unused_tensors})
    for H, W in SIZES:
        x = torch.randn(2, 3, H, W)
        resampled = F.interpolate(x, size=[s * trunk.patch // trunk.multiple for s in (H, W)], mode="bilinear")
        with torch.no_grad():
            theirs = reference.forward_intermediates(resampled, norm=True, intermediates_only=True)
            for ours, expected in zip(trunk(x), theirs, strict=True):
                assert relative_error(ours, expected) < 1e-5


def test_files_of_timm_are_told_apart_from_each_other_and_from_sams():
    for name in ("dinov3-vit_b", "dinov2-vit_b", "pe-vit_b", "sam-vit_b", "dinov3-vit_s+"):
        state = {key.removeprefix("net."): value for key, value in ROWS[name].outline.state_dict().items()}
        assert contents(state).variant == name
        other = "dinov2-vit_b" if name != "dinov2-vit_b" else "sam-vit_b"
        with pytest.raises(WeightsError, match=f"these are weights of .*{name[:6]}.*, not of {other}"):
            trunk_state(state, other, ROWS[other].outline)
    without = timm.create_model("vit_base_patch16_dinov3", num_classes=0, device="meta").state_dict()
    assert (contents(without).variant, contents(without).layout) == ("dinov3-vit_b", "timm")


def test_a_vit_of_nobody_known_is_taken_for_none(monkeypatch):
    """Although nine tenths of its tensors are somebody's; DINOv2's without registers is one by timm's name."""
    for stranger, lacks in (("vit_small_patch14_dinov2", "reg_token"), ("vit_small_patch16_224", "")):
        state = timm.create_model(stranger, num_classes=0, device="meta").state_dict()
        for name in ("dinov2-vit_s", "dinov3-vit_s", "pe-vit_s", "sam-vit_b"):
            message = f"not a checkpoint of {name}: its image encoder lacks " + (f"net.{lacks}" if "v2" in name else "")
            with pytest.raises(WeightsError, match=message):
                trunk_state(state, name, ROWS[name].outline)
    name = "vit_small_patch14_dinov2"
    monkeypatch.setitem(ROWS, name, timm_row(name))
    state = timm.create_model(name, num_classes=0, device="meta").state_dict()
    metas = state | {"mask_token": torch.zeros(1, 384)}
    assert trunk_state(metas, name, ROWS[name].outline).keys() == ROWS[name].outline.state_dict().keys()


def test_any_plain_vit_of_timms_is_an_encoder_by_its_name(monkeypatch):
    monkeypatch.setattr("samseg.encoders.ROWS", ROWS)
    name = "vit_base_patch16_siglip_512.v2_webli"
    try:
        samseg.register(name)
        row = ROWS[name]
        assert (row.image_size, row.mean, row.tags) == (512, (0.5, 0.5, 0.5), ["v2_webli"])
        assert smp.encoders.encoders[name]["pretrained_settings"]["imagenet"]["repo_id"] == f"timm/{name}"
    finally:
        ROWS.pop(name, None), smp.encoders.encoders.pop(name, None)


@pytest.mark.parametrize(
    "name, message",
    [
        ("cait_xxs24_224", "its last blocks see the class token alone"),
        ("beit_base_patch16_224", "it takes images of its own size alone"),
        ("swin_tiny_patch4_window7_224", "it is no plain ViT but timm's SwinTransformer"),
        ("volo_d1_224", "cannot be cut into feature maps"),
        ("deit_tiny_distilled_patch16_224", "embeds its tokens in a way of its own"),
        ("vit_base_patch16_siglip_512.v3_webli", "timm has no weights 'v3_webli' of vit_base_patch16_siglip_512"),
        ("vit_bass_patch16_224", "timm has no network 'vit_bass_patch16_224'; did you mean 'vit_base_patch16_224'"),
    ],
)
def test_what_cannot_be_cut_is_one_line(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        register(name)
    assert "\n" not in str(caught.value) and name not in ROWS


def test_rotations_stay_exact_in_bfloat16():
    """Whose 8 bits would shift tokens; the tokens themselves may be rounded."""
    trunk = TimmViT("vit_small_patch16_dinov3_qkvb", **SMALL_ARGUMENTS)
    before = trunk.net.rope.get_embed((40, 40))
    after = trunk.bfloat16().net.rope.get_embed((40, 40))
    assert after.dtype == torch.float32 and torch.equal(after, before)
