"""SAM 2.1 for images against transformers' `Sam2Model` and, where it is installed, against facebookresearch/sam2."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

import samseg
from benchmarks.peers import sam2_encoder
from samseg.common.errors import ConfigError, WeightsError
from samseg.encoders.registry import ROWS
from samseg.inference.objects.find import by_generator
from samseg.models.sam.files import empty_sam, sam_state
from samseg.models.sam.video import video_tensors
from tests.conftest import SHARED
from tests.encoders.conftest import SMALL_HIERA
from tests.encoders.reference import randomise
from tests.models.sam.reference import PROMPTS, picture

SIZE = 128  # px
transformers = pytest.importorskip("transformers")
SAM2 = ["sam2-hiera_t", "sam2-hiera_s", "sam2-hiera_b+", "sam2-hiera_l"]


def random_sam(variant: str = SMALL_HIERA, size: int = SIZE) -> nn.Module:
    """With masks of both signs and differing IoUs."""
    sam = empty_sam(variant, size)
    randomise(sam)
    generator = torch.Generator().manual_seed(0)
    sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.normal_(generator=generator)
    with torch.no_grad():
        for mlp in sam.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(4)
    return sam


@pytest.fixture(scope="module")
def sam():
    return random_sam()


@pytest.fixture(scope="module")
def theirs(sam, tmp_path_factory):
    """transformers' model of the same tensors, read from our files without one too many or too few."""
    folder = tmp_path_factory.mktemp("hub")
    sam.save_transformers(folder)
    model, info = transformers.Sam2Model.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval(), transformers.Sam2ImageProcessor.from_pretrained(folder)


def predictions(predictor, image: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """The prompts of `reference`, the first and the last for one mask and for three, and masks as prompts."""
    predictor.set_image(image)
    scale = image.shape[1] / 120
    prompts = {}
    for name, prompt in PROMPTS.items():
        prompt = {key: value for key, value in prompt.items() if key != "multimask_output"}
        prompts[name] = {key: value if key == "point_labels" else value * scale for key, value in prompt.items()}
    found = {
        f"{name}, {1 + 2 * three} of it": predictor.predict(**prompt, multimask_output=three, return_logits=True)
        for name, prompt in prompts.items()
        for three in (False, True)
    }
    low = found["a box, 1 of it"][2]
    found["a mask"] = predictor.predict(
        **prompts["a point"], mask_input=low, multimask_output=False, return_logits=True
    )
    return found


class Theirs:
    """transformers' model as a predictor."""

    def __init__(self, model: nn.Module, image_transform):
        self.model, self.image_transform = model, image_transform

    def set_image(self, image: np.ndarray) -> None:
        self.shape, self.pixels = image.shape[:2], self.image_transform(image)[None]

    def predict(
        self, point_coords=None, point_labels=None, box=None, mask_input=None, multimask_output=True, return_logits=True
    ):
        scale = self.image_transform.size / np.array(self.shape[::-1])
        given = dict(input_masks=None if mask_input is None else torch.as_tensor(mask_input)[None])
        if point_coords is not None:
            given["input_points"] = torch.as_tensor(point_coords * scale, dtype=torch.float)[None, None]
            given["input_labels"] = torch.as_tensor(point_labels)[None, None]
        if box is not None:
            given["input_boxes"] = torch.as_tensor(box * np.tile(scale, 2), dtype=torch.float)[None, None]
        with torch.no_grad():
            answer = self.model(pixel_values=self.pixels, multimask_output=multimask_output, **given)
        low = answer.pred_masks[0]
        masks = nn.functional.interpolate(low, self.shape, mode="bilinear", align_corners=False)
        self.object_score = answer.object_score_logits.flatten()
        return masks[0].numpy(), answer.iou_scores[0, 0].numpy(), low[0].clamp(-32, 32).numpy()


def assert_same(found: dict, expected: dict) -> None:
    """Logits within 1e-4 of their largest, and the same masks."""
    for name in expected:
        for ours, theirs in zip(found[name], expected[name], strict=True):
            assert ours.shape == theirs.shape, name
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), rtol=0, err_msg=name)
        logits = expected[name][0]
        sure = np.abs(logits) > 1e-4 * np.abs(logits).max()
        assert sure.mean() > 0.9 and np.array_equal((found[name][0] > 0)[sure], (logits > 0)[sure]), name
    assert any(0.001 < (logits > 0).mean() < 0.999 for logits, _, _ in expected.values())


def test_equals_transformers(sam, theirs):
    model, processor = theirs
    image = picture(SIZE, SIZE)  # another size it resizes in 8 bits
    pixels = processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(sam.image_transform(image), pixels, rtol=1e-5, atol=1e-5)
    reference = Theirs(model, sam.image_transform)
    assert_same(predictions(samseg.SamPredictor(sam), picture()), predictions(reference, picture()))


@pytest.mark.parametrize("sharper", [1, 1000], ids=["not stable", "stable"])
def test_the_object_score_and_the_choice_by_stability_are_transformers(sharper, sam, theirs):
    """A single mask that a stricter threshold changes gives way to the best of three."""
    ours, model = deepcopy(sam), deepcopy(theirs[0])
    last = ours.mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    others = model.mask_decoder.output_hypernetworks_mlps[0].proj_out
    with torch.no_grad():
        for tensor in (last.weight, last.bias, others.weight, others.bias):
            tensor.mul_(sharper)
    predictor, reference = samseg.SamPredictor(ours), Theirs(model, sam.image_transform)
    for one in (predictor, reference):
        one.set_image(picture())
    box = np.array([20, 10, 80, 70])
    _, iou, low = reference.predict(box=box, multimask_output=False)
    boxes = torch.as_tensor(sam.image_transform.apply_coords(box.reshape(2, 2), (90, 120)), dtype=torch.float)
    with torch.no_grad():
        answers = ours.decode(predictor.features, boxes=boxes.reshape(1, 4))
        single = ours.train().decode(predictor.features, boxes=boxes.reshape(1, 4))  # in training it stands
    assert answers.ious.item() == pytest.approx(iou.item(), abs=1e-5)
    assert answers.object_scores.item() == pytest.approx(reference.object_score.item(), abs=1e-4)
    assert torch.equal(answers.logits, single.logits) == (sharper == 1000)


def meta(variant: str, size: int) -> nn.Module:
    """facebookresearch/sam2's own model; without its package the test is skipped."""
    pytest.importorskip("iopath")
    base = pytest.importorskip("sam2.modeling.sam2_base")
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.transformer import RoPEAttention

    heads = dict(
        rope_theta=10000.0, feat_sizes=[64, 64], embedding_dim=256, num_heads=1, downsample_rate=1, dropout=0.1
    )
    layer = MemoryAttentionLayer(
        activation="relu",
        cross_attention=RoPEAttention(**heads, rope_k_repeat=True, kv_in_dim=64),
        d_model=256,
        dim_feedforward=2048,
        dropout=0.1,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=RoPEAttention(**heads),
    )
    memory = MemoryEncoder(
        64,
        MaskDownSampler(kernel_size=3, stride=2, padding=1),
        Fuser(CXBlock(256, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True), num_layers=2),
        PositionEmbeddingSine(64),
    )
    model = base.SAM2Base(
        sam2_encoder(ROWS[variant].arguments),
        MemoryAttention(256, True, layer, 4),
        memory,
        image_size=size,
        directly_add_no_mem_embed=True,
        no_obj_embed_spatial=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=True,
        proj_tpos_enc_in_obj_ptrs=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        use_multimask_token_for_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
        sam_mask_decoder_extra_args=dict(
            dynamic_multimask_via_stability=True,
            dynamic_multimask_stability_delta=0.05,
            dynamic_multimask_stability_thresh=0.98,
        ),
    )
    return model.eval()


def check_meta(sam, variant: str, size: int, image: np.ndarray, folder) -> None:
    model = meta(variant, size)
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    sam.save(folder / "sam2.pt")
    model.load_state_dict(torch.load(folder / "sam2.pt", weights_only=True)["model"])  # strictly
    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(size // stride,) * 2 for stride in (4, 8, 16)]
    again = samseg.build_sam(folder / "sam2.pt", image_size=size)
    assert_same(predictions(samseg.SamPredictor(again), image), predictions(predictor, image))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(90, 120), (300, 160)])
def test_equals_sam2_which_loads_our_file_strictly(sam, shape, tmp_path):
    check_meta(sam, SMALL_HIERA, SIZE, picture(*shape), tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", SAM2)
def test_equals_sam2_at_full_size(variant, tmp_path):
    from PIL import Image

    files = sorted((SHARED / "photos").glob("*.jpg"))
    photo = np.asarray(Image.open(files[0]).convert("RGB")) if files else picture(600, 900)
    check_meta(random_sam(variant, 1024), variant, 1024, photo, tmp_path)


@pytest.mark.parametrize("layout", ["sam2", "transformers"])
def test_both_layouts_are_recognised_and_complete(layout, sam, tmp_path):
    if layout == "sam2":
        sam.save(file := tmp_path / "sam2.pt")
    else:
        sam.save_transformers(tmp_path)
        file = tmp_path / "model.safetensors"
    again = samseg.build_sam(file, image_size=SIZE)
    assert again.encoder.variant == SMALL_HIERA and again.state_dict().keys() == sam.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in sam.state_dict().items())


def test_the_memory_of_videos_is_saved_as_it_came(sam, tmp_path):
    sam.save(tmp_path / "images.pt")
    state = torch.load(tmp_path / "images.pt", weights_only=True)["model"]
    assert not any(state[name].any() for name in video_tensors())
    torch.save({"model": state | {name: tensor + 1 for name, tensor in video_tensors().items()}}, tmp_path / "video.pt")
    samseg.save_sam(samseg.build_sam(tmp_path / "video.pt", image_size=SIZE), tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)["model"]
    assert again.keys() == state.keys() and all((again[name] == 1).all() for name in video_tensors())


def test_what_is_no_sam2_is_one_line(sam, tmp_path):
    sam.save(tmp_path / "sam2.pt")
    with pytest.raises(WeightsError, match=f"weights of {SMALL_HIERA}, not of sam-vit_b"):
        samseg.build_sam(tmp_path / "sam2.pt", "sam-vit_b")
    state = torch.load(tmp_path / "sam2.pt", weights_only=True)["model"]
    del state["sam_mask_decoder.conv_s0.weight"]
    torch.save({"model": state}, tmp_path / "part.pt")
    with pytest.raises(WeightsError, match="its mask_decoder lacks conv_s0.weight"):
        sam_state(tmp_path / "part.pt")
    with pytest.raises(ConfigError, match="has high-resolution features of its own"):
        empty_sam(SMALL_HIERA, hq=True)
    with pytest.raises(ConfigError, match=f"multiple of 32 for {SMALL_HIERA}, got 144"):
        samseg.build_sam(tmp_path / "sam2.pt", image_size=144)
    with pytest.raises(WeightsError, match="dinov2-vit_s has no mask decoder for prompts"):
        empty_sam("dinov2-vit_s")
    with pytest.raises(WeightsError, match="dinov2-vit_s has no mask decoder for prompts"):
        samseg.build_sam("pretrained", "dinov2-vit_s")  # before it is fetched


def test_objects_by_the_grid_and_from_one_example(sam):
    settings = dict(points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    found = by_generator(sam, picture(), **settings)
    assert found.map.shape == (90, 120) and found.classes and set(found.classes) == {1}
    assert sam.grid == {"pred_iou_thresh": 0.8}  # that of segment-anything's is 0.88
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 30:70] = 1
    for fine_tune in (False, True):
        (one,) = samseg.OneShot(sam, [(picture(), mask)], fine_tune=fine_tune).find(picture())
        assert one.mask.shape == (90, 120) and one.mask.any()
