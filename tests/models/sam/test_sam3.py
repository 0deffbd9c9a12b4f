"""SAM 3's tracker against transformers' `Sam3TrackerModel` and, where it is installed, facebookresearch/sam3."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import samseg
from samseg.common.errors import ConfigError, InputError, WeightsError
from samseg.inference.objects.find import by_generator
from samseg.models.sam import contract
from samseg.models.sam.class_tokens import ClassTokens
from samseg.models.sam.files import empty_sam, sam_state
from samseg.models.sam.steps import product
from tests.encoders.conftest import SMALL_SAM3
from tests.models.sam.reference import picture
from tests.models.sam.test_sam2 import Theirs, assert_same, predictions, random_sam

SIZE = 112  # px
VISION = "detector.backbone.vision_backbone"
transformers = pytest.importorskip("transformers", minversion="5.0")  # the first with SAM 3


@pytest.fixture(scope="module")
def sam() -> nn.Module:
    sam = random_sam(SMALL_SAM3, SIZE)
    nn.init.normal_(sam.prompt_encoder.no_mem_embed, generator=torch.Generator().manual_seed(0))
    return sam


@pytest.fixture(scope="module")
def hub(sam, tmp_path_factory):
    """transformers' files of it."""
    sam.save_transformers(folder := tmp_path_factory.mktemp("hub"))
    return folder


def test_equals_transformers_which_loads_our_files_strictly(sam, hub):
    model, info = transformers.Sam3TrackerModel.from_pretrained(hub, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    processor = transformers.Sam3TrackerProcessor.from_pretrained(hub)
    pixels = processor(images=picture(SIZE, SIZE), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(sam.image_transform(picture(SIZE, SIZE)), pixels, rtol=1e-5, atol=1e-5)
    reference = Theirs(model.eval(), sam.image_transform)
    assert_same(predictions(samseg.SamPredictor(sam), picture()), predictions(reference, picture()))
    box = sam.image_transform.apply_coords(np.array([[20, 10], [80, 70]]), (90, 120)).reshape(1, 4)
    with torch.no_grad():
        features = sam.embed(reference.pixels)
        answers = sam.decode(features, boxes=torch.as_tensor(box, dtype=torch.float))
    reference.predict(box=np.array([20, 10, 80, 70]), multimask_output=False)
    assert answers.object_scores.item() == pytest.approx(reference.object_score.item(), abs=1e-4)


def as_published(sam: nn.Module, folder) -> dict[str, Tensor]:
    """Our file with what else is in sam3.pt: the detector with its own neck, buffers, the memory of videos."""
    samseg.save_sam(sam, folder / "tracker.pt")
    state = torch.load(folder / "tracker.pt", weights_only=True)["model"]
    other = {name.replace("sam2_convs", "convs"): tensor + 1 for name, tensor in state.items() if "sam2_" in name}
    other[f"{VISION}.trunk.blocks.0.attn.freqs_cis"] = torch.zeros(9, 8, dtype=torch.complex64)
    for neck in ("convs", "sam2_convs"):
        other[f"{VISION}.{neck}.3.conv_1x1.weight"] = torch.zeros(256, 32, 1, 1)
    return state | other | {"tracker.maskmem_tpos_enc": torch.zeros(7, 1, 1, 64), "detector.dot.bias": torch.zeros(1)}


@pytest.mark.parametrize("layout", ["sam3", "all of sam3.pt", "transformers", "all of facebook/sam3"])
def test_the_tracker_is_taken_from_every_file(layout, sam, hub, tmp_path):
    state = as_published(sam, tmp_path)
    file = tmp_path / "tracker.pt"
    if layout == "all of sam3.pt":
        torch.save({"model": state}, file := tmp_path / "sam3.pt")
    elif layout == "transformers":
        file = hub / "model.safetensors"
    elif layout == "all of facebook/sam3":
        own = samseg.encoders.weights.read_checkpoint(hub / "model.safetensors")
        backbone, neck = "detector_model.vision_encoder.backbone.", "vision_encoder.neck."
        named = {name.replace("vision_encoder.backbone.", backbone): tensor for name, tensor in own.items()}
        trackers = {
            name.replace(neck, "tracker_neck.") if neck in name or backbone in name else f"tracker_model.{name}": tensor
            for name, tensor in named.items()
        }
        detectors = {f"detector_model.{name}": tensor + 1 for name, tensor in own.items() if neck in name}
        torch.save(trackers | detectors, file := tmp_path / "hub.pt")
    again = samseg.build_sam(file)
    assert again.encoder.variant == SMALL_SAM3 and again.image_size == SIZE
    assert again.state_dict().keys() == sam.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in sam.state_dict().items())


NAMES = """\
tracker.no_mem_embed
tracker.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
tracker.sam_prompt_encoder.point_embeddings.3.weight
tracker.sam_mask_decoder.transformer.layers.1.mlp.lin1.weight
tracker.sam_mask_decoder.output_hypernetworks_mlps.0.layers.2.bias
tracker.sam_mask_decoder.conv_s0.weight
detector.backbone.vision_backbone.trunk.pos_embed
detector.backbone.vision_backbone.trunk.blocks.0.mlp.fc1.weight
detector.backbone.vision_backbone.trunk.blocks.3.attn.qkv.bias
detector.backbone.vision_backbone.sam2_convs.0.dconv_2x2_0.weight
detector.backbone.vision_backbone.sam2_convs.0.dconv_2x2_1.weight
detector.backbone.vision_backbone.sam2_convs.1.dconv_2x2.bias
detector.backbone.vision_backbone.sam2_convs.2.conv_1x1.weight
detector.backbone.vision_backbone.sam2_convs.2.conv_3x3.weight
"""


def test_tensors_have_the_names_of_sam3(sam, tmp_path):
    samseg.save_sam(sam, tmp_path / "sam3.pt")
    assert set(NAMES.split()) <= torch.load(tmp_path / "sam3.pt", weights_only=True)["model"].keys()


def test_classes_are_drawn_over_the_whole_square(sam, monkeypatch):
    model, drawn = deepcopy(sam), []
    model.class_tokens = ClassTokens(2)
    monkeypatch.setattr(contract, "product", lambda *tensors: drawn.append(product(*tensors)) or drawn[0])
    with torch.no_grad():
        logits = model(torch.randn(1, 3, SIZE, SIZE))
    expected = nn.functional.interpolate(drawn[0], (SIZE, SIZE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)


def test_an_encoder_takes_the_trackers_neck_where_there_is_no_other(sam, tmp_path):
    samseg.save_sam(sam, tmp_path / "tuned.pt")
    encoder = samseg.create_model("unet", SMALL_SAM3, tmp_path / "tuned.pt").encoder
    theirs = sam.encoder.trunk.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in encoder.trunk.state_dict().items())


def test_what_is_no_tracker_is_one_line(sam, tmp_path):
    state = as_published(sam, tmp_path)
    files = {
        "detector": {name: tensor for name, tensor in state.items() if "tracker." not in name},
        "neck": {name: tensor for name, tensor in state.items() if "sam2_" not in name or "sam_" in name},
        "decoder": {name: tensor for name, tensor in state.items() if "conv_s0" not in name},
    }
    for name, tensors in files.items():
        torch.save(tensors, tmp_path / f"{name}.pt")
    with pytest.raises(WeightsError, match="detector.pt: it holds no tracker, the part of SAM 3 that answers points"):
        samseg.build_sam(tmp_path / "detector.pt")
    with pytest.raises(WeightsError, match="its image encoder lacks neck.levels.0.up1.weight"):
        sam_state(tmp_path / "neck.pt", SMALL_SAM3)
    with pytest.raises(WeightsError, match="its mask_decoder lacks conv_s0.weight"):
        samseg.build_sam(tmp_path / "decoder.pt")
    with pytest.raises(ConfigError, match=f"multiple of 14 for {SMALL_SAM3}, got 128"):
        empty_sam(SMALL_SAM3, 128)
    with pytest.raises(ConfigError, match=f"needs SAM's encoder, not {SMALL_SAM3}: take one of sam-vit_b"):
        samseg.create_model("sam", SMALL_SAM3, None)
    with pytest.raises(InputError, match="text prompts are for SAM 3's detector, which is in its own package, sam3"):
        samseg.SamPredictor(sam).predict(text="a cat")


def test_objects_by_the_grid_and_from_one_example(sam):
    settings = dict(points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    found = by_generator(sam, picture(), **settings)
    assert found.map.shape == (90, 120) and found.classes
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 30:70] = 1
    for fine_tune in (False, True):
        (one,) = samseg.OneShot(sam, [(picture(), mask)], fine_tune=fine_tune).find(picture())
        assert one.mask.shape == (90, 120) and one.mask.any()
