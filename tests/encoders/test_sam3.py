"""SAM 3's numbers, against transformers, and the files in which they are published."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from samseg.encoders.registry import ROWS
from samseg.encoders.sam3 import Sam3ViT
from samseg.encoders.weights import contents, trunk_state
from tests.encoders.conftest import SMALL_SAM3, SMALL_SAM3_ARGUMENTS
from tests.encoders.reference import randomise, relative_error

transformers = pytest.importorskip("transformers", minversion="5.0")  # the first with SAM 3
ROW = ROWS["sam3-vit_l"]


def reference(arguments: dict, tokens: int) -> torch.nn.Module:
    """transformers' for images of so many tokens a side, with the norms' epsilon of Meta's code."""
    backbone = transformers.Sam3ViTConfig(
        hidden_size=arguments["width"],
        intermediate_size=arguments["hidden"],
        num_hidden_layers=arguments["depth"],
        num_attention_heads=arguments["heads"],
        global_attn_indexes=list(arguments["global_blocks"]),
        window_size=arguments.get("window", 24),
        pretrain_image_size=arguments.get("positions", 24) * 14,
        image_size=tokens * 14,
        layer_norm_eps=1e-5,
    )
    return transformers.Sam3VisionModel(transformers.Sam3VisionConfig(backbone_config=backbone)).eval()


VISION = "detector.backbone.vision_backbone."
META = {  # names here, and in sam3.pt
    "mlp.lin": "mlp.fc",
    "neck.levels": "convs",
    "0.up1": "0.dconv_2x2_0",
    "0.up2": "0.dconv_2x2_1",
    "1.up1": "1.dconv_2x2",
    "proj1": "conv_1x1",
    "proj2": "conv_3x3",
}


def as_meta_files_it(trunk: Sam3ViT) -> dict[str, Tensor]:
    """A trunk's tensors as in sam3.pt, with some of what else is there: the tracker's neck, buffers, a decoder."""
    found = {"tracker.mask_decoder.iou_token.weight": torch.zeros(1, 256)}
    lowest = {name: torch.zeros(shape) for name, shape in trunk.unused_tensors.items()}
    for name, value in (trunk.state_dict() | lowest).items():
        for ours, theirs in META.items():
            name = name.replace(ours, theirs)
        if name == "pos_embed":  # there it begins with the class token's
            value = torch.cat([torch.full((1, 1, value.shape[3]), 7.0), value.flatten(1, 2)], dim=1)
        if name.startswith("convs."):
            found[f"{VISION}sam2_{name}"] = torch.full_like(value, 7.0)
        found[VISION + name if name.startswith("convs.") else f"{VISION}trunk.{name}"] = value
    return found | {f"{VISION}trunk.blocks.0.attn.freqs_cis": torch.zeros(9, 8, dtype=torch.complex64)}


@pytest.mark.parametrize("tokens", [24, 12, 19])  # its own size in windows of 8, half of it, and windows to fill up
def test_equals_transformers(tokens, monkeypatch):
    arguments = SMALL_SAM3_ARGUMENTS | dict(window=8, positions=8)
    monkeypatch.setitem(ROWS, SMALL_SAM3, replace(ROWS[SMALL_SAM3], arguments=arguments))
    theirs = reference(arguments, tokens)
    randomise(theirs)
    ours = Sam3ViT(**arguments).eval()
    ours.load_state_dict(trunk_state(theirs.state_dict(), SMALL_SAM3, ours))
    x = torch.randn(1, 3, tokens * 14, tokens * 14, generator=torch.Generator().manual_seed(1))
    taps: list[Tensor] = []
    for block in arguments["global_blocks"]:
        theirs.backbone.layers[block].register_forward_hook(
            lambda module, args, out: taps.append(out.permute(0, 3, 1, 2))
        )
    with torch.inference_mode():
        levels = theirs(x).fpn_hidden_states
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            maps = ours(x)
            found = [*maps, *ours.neck.fine(maps[-2])]
        for one, wanted in zip(found, [*taps, levels[2], *levels[:2]], strict=True):
            assert one.shape == wanted.shape and relative_error(one.detach(), wanted) < 1e-5


def test_transformers_file_is_recognised():
    with torch.device("meta"):
        state = reference(ROW.arguments, 72).state_dict()
    for prefix in ("vision_encoder.", "detector_model.vision_encoder."):
        found = {f"{prefix}{name}": value for name, value in state.items()}
        found |= {"tracker_model.mask_decoder.iou_token.weight": torch.zeros(1, 256, device="meta")}
        assert (contents(found).variant, contents(found).layout) == ("sam3-vit_l", "transformers")
        assert trunk_state(found, "sam3-vit_l", ROW.outline).keys() == ROW.outline.state_dict().keys()


def test_metas_file_is_read_without_class_token_buffers_and_the_trackers_neck():
    trunk = ROWS[SMALL_SAM3].build()
    state = as_meta_files_it(trunk)
    assert (contents(state).variant, contents(state).layout) == (SMALL_SAM3, "sam3")
    found = trunk_state(state, SMALL_SAM3, trunk)
    assert all(torch.equal(found[name], value) for name, value in trunk.state_dict().items())
