"""A trunk that samseg does not know, and each of the families, do all that SAM's do, by what they say of themselves."""

import pytest
import torch
import yaml

import samseg
from samseg.common.errors import ConfigError, WeightsError
from samseg.encoders import ROWS
from samseg.encoders.adapters.insert import adapter_parameters
from samseg.encoders.adapters.methods import METHODS
from samseg.encoders.weights import contents, variant_of
from samseg.models.build import check_adapter
from samseg.models.config import ModelConfig
from samseg.models.trainable import checkpoint_gradients, count_parameters, parameter_groups
from samseg.runs.export import export
from samseg.runs.load import load_run
from tests.conftest import TINY
from tests.encoders.conftest import SMALL, SMALL_DINOV3, SMALL_HIERA, SMALL_PE, SMALL_SAM3
from tests.encoders.foreign import FOREIGN

EVERY = pytest.mark.parametrize("encoder", [FOREIGN, SMALL_HIERA, SMALL_SAM3, SMALL_DINOV3, SMALL_PE])


def small_model(encoder: str = FOREIGN, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return samseg.create_model("fpn", encoder, None, classes=2, decoder_dropout=0.0)


def picture() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    parameters = [p for p in model.encoder.parameters() if p.requires_grad]
    return list(torch.autograd.grad(model(torch.randn(2, 3, 64, 96)).square().mean(), parameters))


@EVERY
@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_starts_as_the_identity_learns_everywhere_and_comes_out(encoder, method):
    if method == "sam_adapter" and encoder in (FOREIGN, SMALL_HIERA):
        pytest.skip("it has no place for it")
    model, plain = small_model(encoder).eval(), small_model(encoder).eval()
    samseg.add_adapter(model, method, blocks=[0, 2, 3])
    with torch.no_grad():
        torch.testing.assert_close(model(picture()), plain(picture()))
        for parameter in adapter_parameters(model):
            parameter.normal_(std=0.1)
        moved = model(picture())
    assert (moved - plain(picture())).abs().max() > 1e-3
    model.train()(picture()).square().mean().backward()
    assert all(parameter.grad is not None for parameter in adapter_parameters(model))
    model.eval()
    if method == "lora":
        samseg.merge_adapter(model)
        torch.testing.assert_close(model(picture()), moved, rtol=1e-3, atol=1e-4)
    samseg.remove_adapter(model)
    torch.testing.assert_close(model(picture()), plain(picture()))


@pytest.mark.parametrize("encoder", [FOREIGN, SMALL_HIERA])
def test_a_place_that_it_has_not_is_said(encoder):
    """By the network, and before one is built."""
    message = rf"{encoder} has no place for sam_adapter \(input\); sam-vit_b, sam-vit_l, sam-vit_h, sam3-vit_l, dinov3"
    with pytest.raises(ConfigError, match=message):
        samseg.add_adapter(small_model(encoder), "sam_adapter")
    with pytest.raises(ConfigError, match=message):
        check_adapter(ModelConfig(encoder=encoder, adapter={"name": "sam_adapter"}))


@pytest.mark.parametrize("encoder", [FOREIGN, SMALL_SAM3])
def test_a_decoder_that_it_does_not_serve_is_said(encoder):
    with pytest.raises(ConfigError, match=f"needs SAM's encoder, not {encoder}: take one of sam-vit_b"):
        samseg.create_model("sam", encoder, None, classes=2)


def test_layers_learn_slower_the_lower_they_are():
    model = small_model()
    settings = {"lr": 1.0, "encoder_lr": 1.0, "pyramid_lr": 1.0, "weight_decay": 0.0, "layer_decay": 0.5}
    rates = {id(p): group["lr"] for group in parameter_groups(model, **settings) for p in group["params"]}
    trunk = model.encoder.trunk
    rows = (trunk.norm.weight, 1), (trunk.blocks[3].widen.weight, 0.5), (trunk.blocks[0].norm1.bias, 1 / 16)
    for parameter, rate in (*rows, (trunk.prefix, 1 / 32), (trunk.patch_embed.weight, 1 / 32)):
        assert rates[id(parameter)] == rate


@EVERY
def test_blocks_are_computed_again_with_the_same_gradients(encoder):
    model = small_model(encoder).train()
    torch.manual_seed(2)
    plain = gradients(model)
    checkpoint_gradients(model)
    torch.manual_seed(2)
    torch.testing.assert_close(gradients(model), plain)


@EVERY
def test_freezing_leaves_the_pyramid(encoder):
    model = small_model(encoder)
    samseg.freeze_encoder(model)
    assert (
        not any(p.requires_grad for p in model.encoder.trunk.parameters()) and not model.train().encoder.trunk.training
    )
    assert all(p.requires_grad for p in model.encoder.pyramid.parameters())
    assert count_parameters(model).endswith("(pyramid, decoder, head); frozen: encoder")


@EVERY
@pytest.mark.parametrize("prefix", ["", "backbone.", "model.image_encoder."])
def test_its_file_is_recognised_and_loads_strictly(encoder, prefix, tmp_path):
    trunk = small_model(encoder, seed=3).encoder.trunk
    state = {f"{prefix}{name}": value for name, value in trunk.state_dict().items()}
    assert (contents(state).variant, contents(state).whole) == (encoder, False)
    torch.save({"state_dict": state}, tmp_path / "its.pth")
    model = samseg.create_model("fpn", encoder, tmp_path / "its.pth", classes=2)
    assert all(torch.equal(value, trunk.state_dict()[name]) for name, value in model.encoder.trunk.state_dict().items())
    with pytest.raises(WeightsError, match=f"these are weights of {encoder}, not of {SMALL}"):
        samseg.create_model("fpn", SMALL, tmp_path / "its.pth", classes=2)
    last = list(trunk.state_dict())[-1]
    state.pop(f"{prefix}{last}")
    torch.save(state, tmp_path / "its.pth")
    with pytest.raises(WeightsError, match=f"lacks {last}"):
        samseg.create_model("fpn", encoder, tmp_path / "its.pth", classes=2)


def test_a_vit_b_of_another_origin_is_not_taken_for_sams():
    state = {
        name: value
        for name, value in ROWS["sam-vit_b"].outline.state_dict().items()
        if "rel_pos" not in name and not name.startswith("neck.")
    }
    state |= {"cls_token": torch.zeros(1, 1, 768), "norm.weight": torch.zeros(768)}
    with pytest.raises(WeightsError, match="its image encoder is none of sam-vit_b"):
        variant_of(state)


@pytest.mark.parametrize(
    "encoder",
    [
        FOREIGN,
        SMALL_HIERA,
        *(pytest.param(name, marks=pytest.mark.slow) for name in (SMALL_SAM3, SMALL_DINOV3, SMALL_PE)),
    ],
)
def test_from_training_on_stored_features_to_a_map(encoder, scenes, tmp_path, command, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    from tests.maps.rasters import noise, write_raster

    monkeypatch.chdir(tmp_path)
    model = TINY["model"] | {"encoder": encoder, "freeze_encoder": True}
    size = 64 + -64 % ROWS[encoder].outline.multiple
    data, settings = TINY["data"] | {"root": str(scenes), "image_size": size}, TINY["train"] | {"epochs": 1}
    (tmp_path / "foreign.yaml").write_text(yaml.safe_dump({"model": model, "data": data, "train": settings}))
    cached = ("train.cache_features=true", "train.cache_dir=cache", "run_dir=run")
    code, out, err = command("train", "foreign.yaml", *cached)
    assert code == 0, err
    assert "computing 9 of 9" in out
    write_raster(tmp_path / "map.tif", noise(150, 170))
    code, _, err = command("infer", "run", "map.tif", "--out", "out")
    assert code == 0, err
    with rasterio.open("out/map.tif") as raster:
        assert raster.shape == (150, 170) and raster.crs.to_epsg() == 32616
    image = torch.randn(2, 3, size, size)
    expected = load_run("run")[0](image)
    program = torch.export.load(export(tmp_path / "run", "torch-export", tmp_path / "run.pt2"))
    torch.testing.assert_close(program.module()(image), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder, multiple", [(FOREIGN, 16), (SMALL_HIERA, 32)])
def test_a_size_that_its_patches_do_not_divide_is_refused(encoder, multiple, tiny_config, command):
    code, _, err = command("train", tiny_config, f"model.encoder={encoder}", "data.image_size=70")
    assert code == 2 and f"data.image_size must be a multiple of {multiple}, got 70; try 64" in err
