"""Every published layout loads whole; everything else is refused with what it is and what to do."""

import pickle
import re
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn

import samseg
from samseg.common.errors import WeightsError
from samseg.encoders.registry import ROWS
from tests.encoders.conftest import SMALL, SMALL_ARGUMENTS
from tests.encoders.reference import randomise, relative_error, segment_anything_encoder, timm_encoder

TRANSFORMERS_NAMES = {
    r"^patch_embed\.proj": "patch_embed.projection",
    r"^blocks\.(\d+)\.norm(\d)": r"layers.\1.layer_norm\2",
    r"^blocks": "layers",
    r"^neck\.0": "neck.conv1",
    r"^neck\.1": "neck.layer_norm1",
    r"^neck\.2": "neck.conv2",
    r"^neck\.3": "neck.layer_norm2",
}


def renamed(state: dict, names: dict[str, str]) -> dict:
    for pattern, replacement in names.items():
        state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
    return state


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + key: value.contiguous() for key, value in state.items()}


@pytest.fixture(scope="module")
def reference():
    return segment_anything_encoder(**SMALL_ARGUMENTS)


@pytest.fixture(scope="module")
def siblings():
    """What lies beside the image encoder in a whole SAM checkpoint."""
    return {
        "mask_decoder.iou_token.weight": torch.randn(1, 256),
        "prompt_encoder.no_mask_embed.weight": torch.randn(1, 256),
    }


def layouts(reference: nn.Module, siblings: dict, folder) -> dict:
    """One checkpoint file for each layout that SAM and its fine-tunes are published in."""
    state = reference.state_dict()
    sam = prefixed(state, "image_encoder.") | siblings
    files = {
        "segment-anything": sam,
        "micro-sam's training": {"model_state": sam, "epoch": 3, "optimizer_state": {"lr": 0.1}},
        "wrapped by DDP": {"model": prefixed(sam, "module.")},
    }
    for name, content in files.items():
        torch.save(content, folder / f"{name}.pth")
    save_file(renamed(prefixed(state, ""), {r"mlp\.lin": "mlp.fc"}), folder / "timm.safetensors")
    hf = prefixed(renamed(state, TRANSFORMERS_NAMES), "vision_encoder.") | siblings
    hf["shared_image_embedding.positional_embedding"] = torch.randn(2, 128)
    save_file(hf, folder / "transformers.safetensors")
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    "layout", ["segment-anything", "micro-sam's training", "wrapped by DDP", "timm", "transformers"]
)
def test_every_layout_gives_sams_numbers(layout, reference, siblings, tmp_path):
    file = layouts(reference, siblings, tmp_path)[layout]
    encoder = smp.encoders.get_encoder(SMALL, weights=None).eval()
    samseg.load_sam_weights(encoder, file)
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert relative_error(encoder.image_embedding(x), reference(x)) < 1e-5


def test_names_are_the_libraries_own(tmp_path):
    """The names above are ours to get wrong: here the libraries themselves write the files."""
    transformers = pytest.importorskip("transformers")
    timm_vit = timm_encoder(**SMALL_ARGUMENTS)
    sizes = dict(hidden_size=32, num_hidden_layers=5, num_attention_heads=2, image_size=128, window_size=3)
    config = transformers.SamVisionConfig(**sizes, global_attn_indexes=[1, 2, 3, 4], mlp_dim=128, output_channels=256)
    sam = transformers.SamModel(transformers.SamConfig(vision_config=config.to_dict())).eval()
    randomise(sam)
    save_file(timm_vit.state_dict(), tmp_path / "timm.safetensors")
    sam.save_pretrained(tmp_path / "hf")
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = {
            tmp_path / "timm.safetensors": timm_vit.forward_features(x),
            tmp_path / "hf" / "model.safetensors": sam.get_image_embeddings(x),
        }
        for file, embedding in expected.items():
            encoder = smp.encoders.get_encoder(SMALL, weights=None).eval()
            samseg.load_sam_weights(encoder, file)
            assert relative_error(encoder.image_embedding(x), embedding) < 1e-5, file


def test_mobile_sam_checkpoint(tmp_path):
    mobile_sam = pytest.importorskip("mobile_sam")
    sam = mobile_sam.sam_model_registry["vit_t"]()
    randomise(sam)
    sam.eval()  # only now: it keeps a copy of its attention biases from here on
    torch.save(sam.state_dict(), tmp_path / "mobile_sam.pt")
    encoder = smp.encoders.get_encoder("sam-vit_t", weights=None).eval()
    samseg.load_sam_weights(encoder, tmp_path / "mobile_sam.pt")
    x = torch.randn(1, 3, 1024, 1024)
    with torch.no_grad():
        assert relative_error(encoder.image_embedding(x), sam.image_encoder(x)) < 1e-5


@pytest.mark.parametrize("name", ["sam-vit_b", "sam-vit_l", "sam-vit_h"])
def test_shapes_are_segment_anythings(name):
    """Names and shapes of all 177 / 345 / 457 tensors, without their gigabytes."""
    from segment_anything.build_sam import sam_model_registry

    with torch.device("meta"):
        expected = sam_model_registry[name.removeprefix("sam-")]().image_encoder.state_dict()
        found = ROWS[name].build().state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}


def test_positions_of_another_size_are_resampled(tmp_path):
    """As of an encoder that was fine-tuned at half the size: at that size it gives its numbers, but for resampling."""
    theirs = segment_anything_encoder(**SMALL_ARGUMENTS | dict(image_size=64))
    with torch.no_grad():
        for name, table in theirs.named_parameters():  # smooth, as trained ones are
            if name == "pos_embed":
                table.copy_(torch.linspace(0, 1, 4)[:, None] * torch.linspace(-1, 1, 32) * torch.ones(1, 4, 4, 1))
            elif "rel_pos" in name and len(table) == 7:
                table.copy_(torch.linspace(-1, 1, 7)[:, None] * torch.linspace(-0.3, 0.3, 16))
    torch.save(prefixed(theirs.state_dict(), "image_encoder."), tmp_path / "half.pth")
    encoder = smp.encoders.get_encoder(SMALL, weights=None).eval()
    samseg.load_sam_weights(encoder, tmp_path / "half.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(encoder.image_embedding(x), theirs(x)) < 0.05
        for name, table in encoder.named_parameters():
            if name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w")):
                table.zero_()
        assert relative_error(encoder.image_embedding(x), theirs(x)) > 0.1


@pytest.mark.parametrize("nesting", [["state_dict_ema"], ["student", "backbone"]])
def test_the_only_encoder_in_any_dictionary_is_found(nesting, reference, siblings, tmp_path):
    content = prefixed(reference.state_dict(), "image_encoder.") | siblings
    for key in reversed(nesting):
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}}
    torch.save(content, tmp_path / "a.pth")
    encoder = smp.encoders.get_encoder(SMALL, weights=None)
    samseg.load_sam_weights(encoder, tmp_path / "a.pth")
    assert torch.equal(encoder.trunk.pos_embed, reference.pos_embed)
    torch.save({"ema": content} | content, tmp_path / "two.pth")
    assert "holds several models (ema." in refusal(tmp_path / "two.pth")


def refusal(source, encoder_name: str = SMALL) -> str:
    encoder = smp.encoders.get_encoder(encoder_name, weights=None)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        samseg.load_sam_weights(encoder, source)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items()), "half loaded"
    message = str(caught.value)
    assert "\n" not in message and Path(source).name.upper() in message.upper()
    return message


def saved(state: dict, path):
    torch.save(state, path)
    return path


def test_a_misspelt_tag_is_told_the_sets_that_there_are():
    assert "weights of dinov3-vit_s; did you mean 'lvd-1689m'?" in refusal("lvd-1698m", "dinov3-vit_s")
    assert "nor weights of dinov3-vit_s; there are pretrained, lvd-1689m" in refusal("runs/other", "dinov3-vit_s")


def test_refuses_missing_and_surplus_tensors(reference, tmp_path):
    state = prefixed(reference.state_dict(), "image_encoder.")
    lacking = {k: v for k, v in state.items() if "rel_pos" not in k}
    message = refusal(saved(lacking, tmp_path / "lacking.pth"))
    assert "lacks blocks.0.attn.rel_pos_h" in message and "and 7 more" in message
    surplus = state | {"image_encoder.blocks.0.adapter.weight": torch.zeros(1)}
    assert "unknown blocks.0.adapter.weight" in refusal(saved(surplus, tmp_path / "surplus.pth"))


def test_refuses_other_variants_and_names_the_right_one(reference, tmp_path):
    state = prefixed(reference.state_dict(), "image_encoder.")
    file = saved(state, tmp_path / "small.pth")
    message = refusal(file, "sam-vit_t")
    assert SMALL in message and "sam-vit_t" in message
    other = segment_anything_encoder(**SMALL_ARGUMENTS | dict(window=2))
    message = refusal(saved(prefixed(other.state_dict(), "image_encoder."), tmp_path / "tables.pth"))
    assert "blocks.0.attn.rel_pos_h has shape (3, 16), expected (5, 16)" in message


def test_refuses_what_is_no_checkpoint(reference, tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("not weights")
    assert "truncated, or not a torch checkpoint" in refusal(tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("not weights")
    assert "truncated, or not a safetensors file" in refusal(tmp_path / "text.safetensors")
    assert "not a checkpoint; it holds no named tensors" in refusal(saved({"epoch": 3}, tmp_path / "numbers.pth"))
    assert "not a checkpoint of sam-vit_small" in refusal(saved({"fc.weight": torch.zeros(2)}, tmp_path / "resnet.pth"))


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_refuses_truncated_files(kind, share, reference, tmp_path):
    file = tmp_path / f"cut.{kind}"
    state = prefixed(reference.state_dict(), "")
    torch.save(state, file) if kind == "pth" else save_file(state, file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert "truncated" in refusal(file)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the checkpoint's code was run",))


def test_runs_no_code_of_a_checkpoint(tmp_path):
    torch.save({"model": Bomb()}, tmp_path / "bomb.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")
    for protocol in (2, 4):
        (tmp_path / f"bare{protocol}.pth").write_bytes(pickle.dumps(Bomb(), protocol))
    for file in tmp_path.iterdir():
        message = refusal(file)
        assert "pickled Python objects" in message and "weights_only" not in message and "\n" not in message
    assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "module.pth")


def test_refuses_weights_that_are_not_finite(reference, tmp_path):
    state = prefixed(reference.state_dict(), "")
    state["pos_embed"] = state["pos_embed"].log()  # of what is not positive
    assert "NaN or infinity in pos_embed" in refusal(saved(state, tmp_path / "nan.pth"))


def test_refuses_a_trained_samseg_model(tmp_path):
    model = smp.Unet(SMALL, encoder_weights=None)
    assert "trained samseg model" in refusal(saved(model.state_dict(), tmp_path / "model.pth"))
    assert "trained samseg model" in refusal(saved(model.encoder.state_dict(), tmp_path / "encoder.pth"))


def test_sa_1b_comes_from_the_hub(reference, tmp_path, monkeypatch):
    """SMP's own path and ours read `model.safetensors` of the same repository out of the hub's cache."""
    (tmp_path / "models--nobody--nothing" / "refs").mkdir(parents=True)
    (tmp_path / "models--nobody--nothing" / "refs" / "main").write_text("0" * 40)
    snapshot = tmp_path / "models--nobody--nothing" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save_file(renamed(prefixed(reference.state_dict(), ""), {r"mlp\.lin": "mlp.fc"}), snapshot / "model.safetensors")
    (snapshot / "config.json").write_text("{}")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    x = torch.randn(1, 3, 128, 128)
    models = [
        smp.Unet(SMALL),  # SMP's defaults: "imagenet"
        smp.create_model("fpn", SMALL, encoder_weights="sa-1b"),
        samseg.create_model("unet", SMALL),
    ]
    with torch.no_grad():
        for model in models:
            assert relative_error(model.encoder.eval().image_embedding(x), reference(x)) < 1e-5


def test_unreachable_hub_names_the_ways_out(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/nonexistent")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refusal("sa-1b")
    for way in ("model.weights=/", "model.weights=null", "model.encoder="):
        assert way in message
