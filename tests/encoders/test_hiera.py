"""SAM 2's numbers: against facebookresearch/sam2 where it is installed, and against transformers."""

import re
from dataclasses import replace

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

import samseg
from benchmarks import peers
from samseg.common.errors import WeightsError
from samseg.encoders import ops
from samseg.encoders.hiera import Sam2Hiera
from samseg.encoders.registry import ROWS
from samseg.encoders.weights import Contents, contents, trunk_state
from tests.encoders.reference import randomise, relative_error

SAM2 = {name: ROWS[name].arguments for name in ("sam2-hiera_t", "sam2-hiera_s", "sam2-hiera_b+", "sam2-hiera_l")}
# Of all four the widths, heads, windows and tables, with as few blocks as have a global one among them.
SHORT = {name: arguments | dict(stages=(1, 1, 2, 1), global_blocks=(3,)) for name, arguments in SAM2.items()}


def sam2_encoder(arguments: dict) -> nn.Module:
    pytest.importorskip("iopath")
    pytest.importorskip("sam2.modeling.backbones.hieradet")
    encoder = peers.sam2_encoder(arguments).eval()
    randomise(encoder)
    return encoder


def transformers_encoder(arguments: dict) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    encoder = transformers.Sam2VisionModel(peers.sam2_vision_config(arguments)).eval()
    randomise(encoder)
    return encoder


def levels_of(output) -> list[torch.Tensor]:
    """SAM 2's feature pyramid at strides 4, 8 and 16."""
    return list(output["backbone_fpn"] if "backbone_fpn" in output else output.fpn_hidden_states)[:3]


def named(reference: nn.Module) -> dict[str, torch.Tensor]:
    """Its tensors as they are published."""
    prefix = "vision_encoder." if hasattr(reference, "backbone") else "image_encoder."
    return {prefix + name: value for name, value in reference.state_dict().items()}


def compare(reference: nn.Module, name: str, arguments: dict, size: tuple[int, int]) -> None:
    trunk = Sam2Hiera(**arguments).eval()
    trunk.load_state_dict(trunk_state(named(reference), name, trunk))
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = levels_of(reference(x))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            maps = trunk(x)
            found = [*trunk.neck.fine(*maps[:2]), maps[-1]]
        assert [x.shape[2] // one.shape[2] for one in maps] == trunk.strides
        for one, wanted in zip(found, expected, strict=True):
            assert one.shape == wanted.shape and relative_error(one.detach(), wanted) < 1e-5


@pytest.fixture
def short(request, monkeypatch) -> dict:
    """The arguments of a shortened row, which is in the registry as "short"."""
    row = ROWS[request.param]
    monkeypatch.setitem(ROWS, "short", replace(row, arguments=SHORT[request.param]))
    return SHORT[request.param]


@pytest.mark.parametrize("size", [(256, 256), (160, 224)])
@pytest.mark.parametrize("short", ["sam2-hiera_t", "sam2-hiera_b+", "sam2-hiera_l"], indirect=True)  # _s is _t, deeper
@pytest.mark.parametrize("reference", [sam2_encoder, transformers_encoder])
def test_equals(reference, short, size):
    compare(reference(short), "short", short, size)


@pytest.mark.parametrize("method, cut", [(None, True), ("lora", True), ("conv_lora", False)])
def test_stripes_give_the_numbers_of_the_whole_map(method, cut, monkeypatch):
    """Inference on a CPU takes a few rows of windows at a time, unless an adapter looks beyond them."""
    encoder = smp.encoders.get_encoder("sam2-hiera_small", weights=None).eval()
    if method:
        samseg.add_adapter(encoder, method)
    randomise(encoder)
    rows, trunk = [], encoder.trunk
    trunk.trunk.blocks[0].norm1.register_forward_pre_hook(lambda _, x: rows.append(x[0].shape[1]))
    x = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(1))
    wanted = trunk(x)
    monkeypatch.setattr(ops, "tokens_at_a_time", lambda x: None if torch.is_grad_enabled() else 1)
    with torch.no_grad():
        for found, whole in zip(trunk(x), wanted, strict=True):
            assert relative_error(found, whole.detach()) < 1e-6
    assert rows[0] == 40 and (max(rows[1:]) < 40) == cut


@pytest.mark.slow
@pytest.mark.parametrize("name", SAM2)
@pytest.mark.parametrize("reference", [sam2_encoder, transformers_encoder])
def test_equals_at_1024_in_full(reference, name):
    compare(reference(SAM2[name]), name, SAM2[name], (1024, 1024))


@pytest.mark.parametrize("name", SAM2)
def test_files_are_recognised_and_a_file_of_another_size_is_named(name):
    """Of transformers' `Sam2Model` and of Meta's, without memory for their tensors."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        whole = transformers.Sam2Model(transformers.Sam2Config(vision_config=peers.sam2_vision_config(SAM2[name])))
    state = {key: torch.empty_like(value, device="meta") for key, value in whole.state_dict().items()}
    assert contents(state) == Contents(name, "transformers", whole=True)
    others = [other for other in SAM2 if other != name]
    for other in others:
        with pytest.raises(WeightsError, match=re.escape(f"these are weights of {name}, not of {other}")):
            trunk_state(state, other, ROWS[other].outline)
    with pytest.raises(WeightsError, match=re.escape(f"these are weights of {name}, not of sam-vit_b")):
        trunk_state(state, "sam-vit_b", ROWS["sam-vit_b"].outline)
    assert trunk_state(state, name, ROWS[name].outline).keys() == ROWS[name].outline.state_dict().keys()


def test_timms_file_lacks_the_neck():
    with torch.device("meta"):
        state = timm.create_model("sam2_hiera_tiny", num_classes=0).state_dict()
    with pytest.raises(
        WeightsError,
        match="timm's file of sam2-hiera_t lacks its neck; take that of huggingface.co/facebook/sam2.1-hiera-tiny",
    ):
        trunk_state(state, "sam2-hiera_t", ROWS["sam2-hiera_t"].outline)
