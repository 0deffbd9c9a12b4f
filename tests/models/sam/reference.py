"""Whole SAMs of segment-anything, segment-anything-hq and MobileSAM with random numbers everywhere, small or real."""

from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything_hq import modeling as hq
from torch import nn

from samseg.encoders.registry import ROWS
from tests.encoders.conftest import SMALL
from tests.encoders.reference import randomise, segment_anything_encoder

PROMPTS: dict[str, dict[str, Any]] = {  # in an image of 120 x 90; scaled to others
    "a point": dict(point_coords=np.array([[40, 30]]), point_labels=np.array([1])),
    "points of both kinds": dict(
        point_coords=np.array([[40, 30], [100, 80], [7, 66]]), point_labels=np.array([1, 0, 1]), multimask_output=False
    ),
    "a box": dict(box=np.array([20, 10, 80, 70]), multimask_output=False),
    "a box and a point": dict(
        box=np.array([20, 10, 80, 70]), point_coords=np.array([[40, 30]]), point_labels=np.array([0])
    ),
}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, large enough in the decoder's last layers for masks of both signs and differing IoUs."""
    randomise(model, seed)
    positions = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    positions.normal_(generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for mlp in model.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(4)
    return model.eval()


def sam_like(variant: str = SMALL, image_size: int | None = None) -> Sam:
    """segment-anything's own model of a variant of the registry (not of sam-vit_t)."""
    arguments = ROWS[variant].arguments
    size = image_size or arguments.get("image_size", 1024)
    prompt_encoder = PromptEncoder(256, (size // 16, size // 16), (size, size), 16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(transformer_dim=256, transformer=transformer)
    return randomised(Sam(segment_anything_encoder(**arguments, randomised=False), prompt_encoder, decoder))


def hq_like(variant: str = SMALL) -> nn.Module:
    """segment-anything-hq's own model of a variant of the registry (not of sam-vit_t)."""
    arguments = dict(ROWS[variant].arguments)
    size, width = arguments.get("image_size", 1024), arguments["width"]
    encoder = hq.ImageEncoderViT(
        img_size=size,
        embed_dim=width,
        depth=arguments["depth"],
        num_heads=arguments["heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=arguments.get("window", 14),
        global_attn_indexes=arguments["global_blocks"],
    )
    transformer = hq.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = hq.MaskDecoderHQ(transformer_dim=256, transformer=transformer, vit_dim=width)
    return randomised(hq.Sam(encoder, hq.PromptEncoder(256, (size // 16, size // 16), (size, size), 16), decoder))


def picture(height: int = 90, width: int = 120) -> np.ndarray:
    """Smooth coloured noise, (height, width, 3) uint8."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def predictions(predictor: SamPredictor, image: np.ndarray, **arguments: Any) -> dict[str, tuple[np.ndarray, ...]]:
    """Each prompt's logits (C, H, W), predicted IoUs (C,) and low-resolution logits; one of these is a prompt, too."""
    predictor.set_image(image)
    scale = image.shape[1] / 120
    found = {}
    for name, prompt in PROMPTS.items():
        prompt = {k: v * scale if k in ("point_coords", "box") else v for k, v in prompt.items()}
        found[name] = predictor.predict(**prompt, **arguments, return_logits=True)
    mask = found["a box"][2][:1]
    found["a mask"] = predictor.predict(
        point_coords=np.array([[50, 50]]) * scale,
        point_labels=np.array([1]),
        mask_input=mask,
        multimask_output=False,
        return_logits=True,
        **arguments,
    )
    return found


def assert_same_answers(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    mixed = 0
    for name in expected:
        for ours, theirs in zip(found[name], expected[name], strict=True):
            assert ours.shape == theirs.shape, name
            np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0, err_msg=name)
        logits = expected[name][0]
        sure = np.abs(logits) > 1e-4  # the sign of what is zero but for rounding says nothing
        assert sure.mean() > 0.9 and np.array_equal((found[name][0] > 0)[sure], (logits > 0)[sure]), name
        mixed += 0.001 < (logits > 0).mean() < 0.999
    assert mixed > 0  # masks that say something
