"""The steps that SAM's mask decoders are made of, for those that differ from segment-anything's own."""

import math

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from torch import Tensor

from samseg.encoders.trunk import EMBEDDING
from samseg.models.sam.two_way import SharedTwoWay

STRIDE = 16  # of the image embedding, in pixels
FINE = EMBEDDING // 8  # channels of the upscaled embedding


def two_way_transformer() -> TwoWayTransformer:
    """SAM's, with random weights."""
    return SharedTwoWay(depth=2, embedding_dim=EMBEDDING, mlp_dim=2048, num_heads=8)


def shown(
    transformer: TwoWayTransformer, own: Tensor, sparse: Tensor, source: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Show an image to a decoder's own tokens and to those of K prompts.

    Args:
        transformer: SAM's.
        own: tokens (N, 256).
        sparse: of the prompts, (K, P, 256).
        source: the image embedding with what the prompts add to it, (K, 256, h, w), or (1, ...) for the same to all.
        positions: (1, 256, h, w).

    Returns:
        Tokens (K, N + P, 256), the decoder's own first, and the image (K, h * w, 256).
    """
    return transformer(source, positions, torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1))


def filters(decoder: MaskDecoder, tokens: Tensor) -> Tensor:
    """Mask tokens (K, N, 256) -> the weights of 1x1 convolutions (K, N, 32)."""
    return torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], dim=1)


def best_of_three(masks: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
    """Of four masks (K, 4, h, w), the first unambiguous, that of the others which is thought best; (K, 1) of each."""
    ious, best = ious[:, 1:].max(dim=1, keepdim=True)
    return masks[torch.arange(len(masks), device=masks.device), best[:, 0] + 1][:, None], ious


def grid_positions(pe_layer: PositionEmbeddingRandom, embedding: Tensor) -> Tensor:
    """SAM's position encoding (1, 256, h, w) of the embedding's pixels.

    An image that is not square lies in the corner of a square one, as it does in SAM once it is padded.
    """
    h, w = embedding.shape[2:]
    frequencies = pe_layer.positional_encoding_gaussian_matrix.float()  # (2, 128), of x and of y
    x, y = (
        ((torch.arange(length, device=embedding.device) + 0.5) / max(h, w) * 2 - 1)[:, None] * frequency
        for length, frequency in zip((w, h), frequencies, strict=True)
    )  # not a matrix product, which autocast would round
    phase = 2 * math.pi * (x[None] + y[:, None])
    return torch.cat([phase.sin(), phase.cos()], dim=-1).permute(2, 0, 1)[None].to(embedding.dtype)


def product(filters: Tensor, features: Tensor) -> Tensor:
    """Filters (B, N, C) on features (B, C, H, W) -> (B, N, H, W)."""
    return (filters @ features.flatten(2)).unflatten(2, features.shape[2:])


def enlarged(logits: Tensor, shape: tuple[int, int], stride: float) -> Tensor:
    """Logits (B, N, h, w) at the size of the image, (B, N, H, W); what lay in the padding is cut off."""
    logits = F.interpolate(logits, scale_factor=float(stride), mode="bilinear", align_corners=False)
    return logits[:, :, : shape[0], : shape[1]]
