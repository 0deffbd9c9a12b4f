"""SAM with our encoder against the packages it comes from, for every prompt and every layout of a checkpoint."""

import mobile_sam
import numpy as np
import pytest
import segment_anything_hq
import torch
from PIL import Image
from safetensors.torch import save_file
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.utils.onnx import SamOnnxModel

import samseg
from samseg.common.errors import ConfigError, InputError, WeightsError
from samseg.encoders.tinyvit import TinyViT
from samseg.models.sam.names import transformers_name
from tests.conftest import SHARED
from tests.encoders.conftest import SMALL
from tests.models.sam.reference import (
    assert_same_answers,
    hq_like,
    picture,
    predictions,
    randomised,
    sam_like,
)

REAL = ["sam-vit_b", "sam-vit_l", "sam-vit_h"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """segment-anything's small model and its checkpoint."""
    sam = sam_like()
    path = tmp_path_factory.mktemp("sam") / "small.pth"
    torch.save(sam.state_dict(), path)
    return sam, path


def ours(path, **arguments):
    return samseg.build_sam(path, image_size=128, **arguments)


def photo() -> np.ndarray:
    files = sorted((SHARED / "photos").glob("*.jpg"))
    return np.asarray(Image.open(files[0]).convert("RGB")) if files else picture(600, 900)


def test_equals_segment_anything(small):
    sam, path = small
    expected = predictions(SamPredictor(sam), picture())
    assert_same_answers(predictions(SamPredictor(ours(path)), picture()), expected)


def test_mobile_sam_loads_what_is_saved(tmp_path):
    reference = randomised(mobile_sam.sam_model_registry["vit_t"]())
    torch.save(reference.state_dict(), tmp_path / "mobile_sam.pt")
    samseg.save_sam(samseg.build_sam(tmp_path / "mobile_sam.pt"), tmp_path / "again.pt")
    again = mobile_sam.sam_model_registry["vit_t"](tmp_path / "again.pt").state_dict()  # which loads strictly
    unused = {f"image_encoder.{name}" for name in TinyViT.unused_tensors}
    assert all(torch.equal(again[name], value) for name, value in reference.state_dict().items() if name not in unused)


@pytest.mark.slow
def test_equals_mobile_sam(tmp_path):
    reference = randomised(mobile_sam.sam_model_registry["vit_t"]())
    torch.save(reference.state_dict(), tmp_path / "sam.pt")
    expected = predictions(mobile_sam.SamPredictor(reference), photo())
    assert_same_answers(predictions(SamPredictor(samseg.build_sam(tmp_path / "sam.pt")), photo()), expected)


@pytest.mark.slow
@pytest.mark.parametrize("variant", REAL)
def test_equals_segment_anything_at_full_size(variant, tmp_path):
    sam = sam_like(variant)
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    expected = predictions(SamPredictor(sam), photo())
    del sam
    assert_same_answers(predictions(SamPredictor(samseg.build_sam(tmp_path / "sam.pth")), photo()), expected)


@pytest.mark.parametrize("hq_token_only", [False, True])
def test_equals_sam_hq(hq_token_only, tmp_path):
    check_hq(SMALL, [hq_token_only], tmp_path, image_size=128)


@pytest.mark.slow
@pytest.mark.parametrize("variant", REAL)
def test_equals_sam_hq_at_full_size(variant, tmp_path):
    check_hq(variant, [False, True], tmp_path, photo())


def check_hq(variant, choices, folder, image=None, **arguments):
    image = picture() if image is None else image
    reference = hq_like(variant)
    torch.save(reference.state_dict(), folder / "hq.pth")
    predictor = segment_anything_hq.SamPredictor(reference)
    expected = [predictions(predictor, image, hq_token_only=choice) for choice in choices]
    del reference, predictor
    sam = samseg.build_sam(folder / "hq.pth", hq_token_only=choices[0], **arguments)
    for choice, answers in zip(choices, expected, strict=True):
        sam.mask_decoder.hq_token_only = choice
        assert_same_answers(predictions(SamPredictor(sam), image), answers)
    assert variant != SMALL or not np.allclose(answers["a box"][0], sam_mask_alone(sam, image), atol=1e-2)


def sam_mask_alone(sam, image):
    """SAM's own mask for the box, with the HQ token's filter silenced."""
    last = sam.mask_decoder.hf_mlp.layers[-1]
    sam.mask_decoder.hq_token_only = False
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    return predictions(SamPredictor(sam), image)["a box"][0]


def test_automatic_masks_are_segment_anythings(small):
    sam, path = small
    settings = dict(points_per_side=4, pred_iou_thresh=-100.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    expected = SamAutomaticMaskGenerator(sam, **settings).generate(picture())
    found = SamAutomaticMaskGenerator(ours(path), **settings).generate(picture())
    assert len(found) == len(expected) > 1
    for one, other in zip(found, expected, strict=True):
        assert one["bbox"] == other["bbox"] and one["point_coords"] == other["point_coords"]
        assert (one["segmentation"] != other["segmentation"]).mean() < 1e-3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("hq", [False, True])
def test_onnx_export_of_segment_anything(hq, small, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = small[1]
    if hq:
        path = tmp_path / "hq.pth"
        torch.save(hq_like().state_dict(), path)
    sam = ours(path)
    predictor = SamPredictor(sam)
    expected = predictions(predictor, picture())["points of both kinds"]
    points = predictor.transform.apply_coords(np.array([[40.0, 30], [100, 80], [7, 66], [0, 0]]), (90, 120))
    inputs = {
        "image_embeddings": predictor.features,
        "point_coords": torch.tensor(points[None], dtype=torch.float32),
        "point_labels": torch.tensor([[1.0, 0, 1, -1]]),
        "mask_input": torch.zeros(1, 1, 32, 32),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([90.0, 120.0]),
    }
    file = tmp_path / "decoder.onnx"
    torch.onnx.export(  # as scripts/export_onnx_model.py does
        SamOnnxModel(sam, return_single_mask=True),
        tuple(inputs.values()),
        file,
        input_names=list(inputs),
        output_names=["masks", "iou_predictions", "low_res_masks"],
        opset_version=17,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(file)
    masks, ious, _ = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    np.testing.assert_allclose(ious[0], expected[1], atol=1e-4)
    # The exported model pads the image's size, not 128 px, where it is not square: up to a pixel's rounding.
    np.testing.assert_allclose(masks[0], expected[0], atol=1e-3)


@pytest.mark.parametrize("layout", ["transformers", "transformers, tied", "micro-sam's training state", "container"])
def test_layouts_of_a_checkpoint(layout, small, tmp_path):
    sam, _ = small
    state = sam.state_dict()
    file = tmp_path / "sam.pth"
    if layout.startswith("transformers"):
        file = tmp_path / "model.safetensors"
        renamed = {transformers_name(name): tensor for name, tensor in state.items()}
        if "tied" in layout:  # one of the two names of the positions is left out
            tied = renamed.pop("prompt_encoder.shared_embedding.positional_embedding")
            renamed["shared_image_embedding.positional_embedding"] = tied
        save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, file)
    elif layout == "container":
        torch.save({"model": state, "optimizer": {}}, file)
    else:
        torch.save({"model_state": {f"sam.{name}": tensor for name, tensor in state.items()}, "epoch": 3}, file)
    expected = {name.replace("image_encoder.", "encoder.trunk."): value for name, value in state.items()}
    found = ours(file).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_saved_checkpoint_loads_strictly_with_lora_merged(small, tmp_path):
    sam, path = small
    model = ours(path)
    samseg.add_adapter(model.image_encoder, "lora", rank=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("b_q", "b_v")):
                parameter.normal_(std=0.3)
    expected = predictions(SamPredictor(model), picture())
    samseg.save_sam(model, tmp_path / "tuned.pth")
    assert_same_answers(predictions(SamPredictor(model), picture()), expected)  # the model itself is as it was
    sam = sam_like()
    before = predictions(SamPredictor(sam), picture())
    sam.load_state_dict(torch.load(tmp_path / "tuned.pth", weights_only=True))
    assert_same_answers(predictions(SamPredictor(sam), picture()), expected)
    assert not np.allclose(before["a box"][0], expected["a box"][0], atol=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_transformers_loads_what_is_saved(small, tmp_path):
    transformers = pytest.importorskip("transformers")
    _, path = small
    model = ours(path)
    model.save_transformers(tmp_path)
    theirs, info = transformers.SamModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    processor = transformers.SamImageProcessor.from_pretrained(tmp_path)
    image = picture(128, 128)  # no resizing, which the two do with different filters
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    expected = predictions(SamPredictor(model), image)["a box"][2]
    box = torch.tensor([[[20.0, 10, 80, 70]]]) * 128 / 120
    with torch.no_grad():
        answer = theirs.eval()(pixel_values=pixels, input_boxes=box, multimask_output=False)
    np.testing.assert_allclose(answer.pred_masks[0, 0].numpy(), expected, atol=1e-3)
    again = ours(tmp_path / "model.safetensors")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_cannot_be_saved(small, tmp_path):
    model = ours(small[1])
    samseg.add_adapter(model.image_encoder, "adapter")
    with pytest.raises(InputError, match="adapter cannot be merged"):
        samseg.save_sam(model, tmp_path / "sam.pth")
    with pytest.raises(InputError, match="no whole SAM"):
        samseg.save_sam(model.mask_decoder, tmp_path / "sam.pth")
    assert not list(tmp_path.iterdir())


def broken(state: dict, fault: str) -> dict:
    state = dict(state)
    if fault == "encoder alone":
        return {name: value for name, value in state.items() if name.startswith("image_encoder.")}
    if fault == "missing":
        del state["prompt_encoder.not_a_point_embed.weight"]
    if fault == "surplus":
        state["mask_decoder.novel.weight"] = torch.zeros(1)
    if fault == "shape":
        state["mask_decoder.mask_tokens.weight"] = torch.zeros(5, 256)
    return state


@pytest.mark.parametrize(
    "fault, message",
    [
        ("encoder alone", "holds no mask decoder"),
        ("missing", "prompt_encoder lacks not_a_point_embed.weight"),
        ("surplus", "mask_decoder has the unknown novel.weight"),
        ("shape", r"mask_decoder.mask_tokens.weight has shape \(5, 256\), expected \(4, 256\)"),
    ],
)
def test_checkpoints_that_do_not_fit(fault, message, small, tmp_path):
    torch.save(broken(small[0].state_dict(), fault), tmp_path / "sam.pth")
    with pytest.raises(WeightsError, match=message) as error:
        ours(tmp_path / "sam.pth")
    assert "\n" not in str(error.value) and str(tmp_path / "sam.pth") in str(error.value)


def test_what_is_asked_must_be_there(small):
    with pytest.raises(WeightsError, match="plain SAM's"):
        ours(small[1], hq_token_only=True)
    with pytest.raises(WeightsError, match="not of sam-vit_l"):
        ours(small[1], variant="sam-vit_l")
    with pytest.raises(ConfigError, match="did you mean 'sam-vit_b'"):
        ours(small[1], variant="sam-vitb")
    with pytest.raises(ConfigError, match="needs a variant"):
        samseg.build_sam("sa-1b")
    with pytest.raises(ConfigError, match="multiple of 16"):
        samseg.build_sam(small[1], image_size=100)
    with pytest.raises(WeightsError, match="cannot be fetched .*facebook/sam-vit-large.* whole SAM") as error:
        samseg.build_sam("sa-1b", "sam-vit_l")  # tests run offline
    assert "\n" not in str(error.value)
