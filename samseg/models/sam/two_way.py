"""SAM's two-way transformer and what draws its masks: segment-anything's numbers in less time.

Reference code: `TwoWayTransformer` and `MaskDecoder` in segment-anything. The objects of an image share its side of the
transformer up to where the image first looks at the tokens, and no attention keeps its logits. A mask's pixels lie with
the token above them until the end, so that a convolution to twice the size is a linear layer and a norm reads what lies
together.
"""

import torch.nn.functional as F
from segment_anything.modeling import TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from samseg.encoders import ops


class SharedTwoWay(TwoWayTransformer):
    """segment-anything's, which also takes one image for the tokens of K objects."""

    def forward(self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Image and positions (1 or K, C, h, w), tokens (K, T, C) -> tokens (K, T, C), the image (K, h * w, C)."""
        keys, positions = (x.flatten(2).transpose(1, 2).contiguous() for x in (image_embedding, image_pe))
        queries = own = point_embedding
        for layer in self.layers:
            if layer.skip_first_layer_pe:
                queries = layer.norm1(layer.self_attn(queries, queries, queries))
            else:
                q = queries + own
                queries = layer.norm1(queries + layer.self_attn(q, q, queries))
            placed = keys + positions
            queries = layer.norm2(queries + _attended(layer.cross_attn_token_to_image, queries + own, placed, keys))
            queries = layer.norm3(queries + layer.mlp(queries))
            keys = layer.norm4(keys + _attended(layer.cross_attn_image_to_token, placed, queries + own, queries))
        last = self.final_attn_token_to_image
        return self.norm_final_attn(queries + _attended(last, queries + own, keys + positions, keys)), keys


def drawn(
    upscaling: nn.Sequential, filters: Tensor, pixels: Tensor, shape: tuple[int, int], fine: dict[str, Tensor]
) -> Tensor:
    """Masks (K, M, 4h, 4w): filters (K, M, 32) on what is upscaled of an image's tokens (K, h * w, 256).

    Args:
        upscaling: SAM's: a convolution to twice the size, a norm, GELU, another convolution and GELU.
        shape: (h, w).
        fine: of SAM 2, "fine8" (1, 64, 2h, 2w) and "fine4" (1, 32, 4h, 4w), to add on the way; else nothing.
    """
    first, norm, _, second, _ = upscaling
    x = _doubled(first, pixels)
    if fine:
        x = x + _under_tokens(fine["fine8"], shape)
    x = _doubled(second, ops.gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)))
    if fine:
        x = x + _under_tokens(fine["fine4"], shape)
    masks = ops.gelu(x).flatten(1, -2) @ filters.transpose(1, 2)  # this way round, or GELU's gradient lies across
    masks = masks.unflatten(1, (*shape, 2, 2, 2, 2)).permute(0, 7, 1, 3, 5, 2, 4, 6)
    return masks.reshape(*masks.shape[:2], 4 * shape[0], 4 * shape[1])


def _attended(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """segment-anything's attention of (1 or K, M, C) to (1 or K, N, C) -> (K, M, C)."""
    layers = attention.q_proj, attention.k_proj, attention.v_proj
    q, k, v = (_linear(layer, x).unflatten(2, (attention.num_heads, -1)) for layer, x in zip(layers, (q, k, v)))
    count = q.shape[0] if k.shape[0] == 1 else k.shape[0]
    q, k, v = (x.expand(count, -1, -1, -1).transpose(1, 2) for x in (q, k, v))
    return _linear(attention.out_proj, ops.plain_attention(q, k, v).transpose(1, 2).flatten(2))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return ops.linear(x, layer.weight, layer.bias)


def _doubled(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A convolution of 2 x 2 pixels and stride 2, (..., C) -> (..., 4, D): the four pixels under each."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)
    return ops.linear(x, weight, convolution.bias.repeat(4)).unflatten(-1, (4, -1))


def _under_tokens(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """A map (B, C, H, W) twice or four times as fine as tokens (h, w) -> its pixels as `_doubled` has them."""
    h, w = shape
    if x.shape[2] == 2 * h:
        return x.unflatten(3, (w, 2)).unflatten(2, (h, 2)).permute(0, 2, 4, 3, 5, 1).reshape(len(x), h * w, 4, -1)
    x = x.unflatten(3, (w, 2, 2)).unflatten(2, (h, 2, 2)).permute(0, 2, 5, 3, 6, 4, 7, 1)
    return x.reshape(len(x), h * w, 4, 4, -1)
