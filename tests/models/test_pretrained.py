"""What a checkpoint may leave out, and that what was left out is found again."""

import hashlib

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from samseg.common.errors import WeightsError
from samseg.models.build import build_model
from samseg.models.config import ModelConfig
from samseg.models.pretrained import base_of, digest, load_trained, pretrained_tensors, trained_part


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of resnet18's weights, with running statistics that are not those of the start."""
    torch.manual_seed(0)
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    encoder(torch.randn(2, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(encoder.state_dict(), path)
    return path


def model(weights, **settings):
    return build_model(ModelConfig(encoder="resnet18", weights=str(weights), **settings), classes=2)


class Wrapped(nn.Module):
    """As adapters wrap a layer: its tensors stay, under other names, beside new ones."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.down = layer, nn.Parameter(torch.zeros(3))


def test_the_digest_is_over_names_shapes_and_float32_values():
    one, other = torch.randn(2, 3), torch.tensor(7)
    expected = hashlib.sha256(b"a () torch.int64\n" + np.int64(7).tobytes())
    expected.update(b"b (2, 3) torch.float32\n" + one.numpy().tobytes())
    assert digest({"b": one, "a": other}) == expected.hexdigest()
    assert digest({"b": one.double(), "a": other}) == expected.hexdigest()
    for changed in ({"b": one + 1, "a": other}, {"c": one, "a": other}, {"b": one.reshape(3, 2), "a": other}):
        assert digest(changed) != expected.hexdigest()


def test_a_frozen_encoder_is_the_base_with_its_running_statistics(weights):
    built = model(weights)
    assert built.base.names == {name for name in built.model.state_dict() if name.startswith("encoder.")}
    assert any("running_mean" in name for name in built.base.names)
    assert built.base.digest == digest(torch.load(weights))
    state = trained_part(built.model.state_dict(), built.base)
    assert state and not [name for name in state if name.startswith("encoder.")]


def test_sams_pyramid_is_not_part_of_it(tmp_path):
    torch.manual_seed(0)
    trunk = smp.encoders.get_encoder("sam-vit_t", weights=None).trunk
    torch.save({f"image_encoder.{name}": value for name, value in trunk.state_dict().items()}, tmp_path / "sam.pth")
    config = ModelConfig(arch="fpn", encoder="sam-vit_t", weights=str(tmp_path / "sam.pth"))
    built = build_model(config, classes=2)
    assert built.base.names == {f"encoder.trunk.{name}" for name in trunk.state_dict()}
    assert built.base.digest == digest(trunk.state_dict())


def test_what_is_free_or_was_random_has_no_base(weights):
    assert model(weights, freeze_encoder=False).base is None
    assert build_model(ModelConfig(encoder="resnet18", weights=None), classes=2).base is None


def test_adapters_change_names_but_not_the_digest(weights):
    built, before = model(weights)
    loaded = pretrained_tensors(built)
    built.encoder.layer1[0].conv1 = Wrapped(built.encoder.layer1[0].conv1)
    after = base_of(built, before.weights, loaded)
    assert after.digest == before.digest
    assert "encoder.layer1.0.conv1.layer.weight" in after.names
    assert "encoder.layer1.0.conv1.down" in trained_part(built.state_dict(), after)


def test_running_statistics_are_kept_where_a_part_of_the_encoder_trains(weights):
    built, _ = model(weights)
    loaded = pretrained_tensors(built)
    built.encoder.layer4[1].bn2.weight.requires_grad_(True)
    base = base_of(built, "resnet18.pth", loaded)
    kept = trained_part(built.state_dict(), base)
    assert "encoder.layer4.1.bn2.weight" in kept and "encoder.bn1.running_mean" in kept
    assert "encoder.bn1.weight" not in kept


def test_a_part_goes_onto_the_same_base_only(weights, tmp_path):
    (trained, base), fresh = model(weights), model(weights)
    state, metadata = trained_part(trained.state_dict(), base), base.metadata()
    load_trained(*fresh, state, metadata, "best.safetensors")
    assert all(value.equal(fresh.model.state_dict()[name]) for name, value in trained.state_dict().items())

    other = torch.load(weights)
    other["conv1.weight"][0] += 1e-3
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="^best.safetensors was trained on the base weights .*resnet18.pth") as error:
        load_trained(*model(tmp_path / "other.pth"), state, metadata, "best.safetensors")
    assert metadata["base_sha256"][:16] in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="no frozen pretrained part"):
        load_trained(*model(weights, freeze_encoder=False), state, metadata, "best.safetensors")
    state.pop("segmentation_head.0.bias")
    with pytest.raises(WeightsError, match="1 tensors differ, such as segmentation_head.0.bias"):
        load_trained(*fresh, state, metadata, "best.safetensors")
