"""segment-anything's own encoder and timm's, with random numbers everywhere, biases and relative positions included."""

from functools import partial

import torch
from segment_anything.modeling.image_encoder import ImageEncoderViT
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn


def randomise(module: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            is_matrix = parameter.ndim > 1 and "rel_pos" not in name and "pos_embed" not in name
            std = 0.5 * parameter[0].numel() ** -0.5 if is_matrix else 0.2
            parameter.normal_(1.0 if is_scale else 0.0, std, generator=generator)


def segment_anything_encoder(
    width: int,
    depth: int,
    heads: int,
    global_blocks: tuple[int, ...],
    image_size: int = 1024,
    window: int = 14,
    randomised: bool = True,
) -> ImageEncoderViT:
    encoder = ImageEncoderViT(
        img_size=image_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        out_chans=256,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window,
        global_attn_indexes=global_blocks,
    )
    if randomised:
        randomise(encoder)
    return encoder.eval()


def timm_encoder(
    width: int, depth: int, heads: int, global_blocks: tuple[int, ...], image_size: int, window: int
) -> VisionTransformerSAM:
    encoder = VisionTransformerSAM(
        img_size=image_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window,
        global_attn_indexes=global_blocks,
        num_classes=0,
    )
    randomise(encoder)
    return encoder.eval()


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()
