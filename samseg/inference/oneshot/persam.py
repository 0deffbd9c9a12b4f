"""PerSAM's parts: the target of an example, where an image resembles it, and SAM's decoder guided by both.

Paper: Zhang et al., "Personalize Segment Anything Model with One Shot", ICLR 2024. Reference code: Personalize-SAM.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from segment_anything.modeling import MaskDecoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from samseg.models.sam.steps import STRIDE
from samseg.models.sam.transform import ImageTransform
from samseg.tasks.promptable.losses import FOCAL_ALPHA, FOCAL_GAMMA, dice_loss


def coverage(mask: Tensor, transform: ImageTransform, stride: float = STRIDE) -> Tensor:
    """How much of each cell of SAM's square, `stride` px wide, an image's mask (H, W) bool covers."""
    size, (height, width) = transform.size, transform.inner(mask.shape)
    resized = F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")
    square = F.pad(resized, [0, size - width, 0, size - height])
    return F.adaptive_avg_pool2d(square, round(size / stride))[0, 0]


def target_of(embedding: Tensor, covered: Tensor, fine_tune: bool) -> Tensor:
    """What an example says of its class (C,): the mean of the embedding (C, h, w) where the object ``covered`` (h, w)
    more than half of a cell, or for PerSAM-F halfway between the mean and the maximum.

    An object smaller than that has the cells it covers most of.
    """
    inside = covered > 0.5
    if not inside.any():
        inside = covered == covered.max()
    features = embedding[:, inside].T
    mean = features.mean(dim=0)
    return (mean + features.amax(dim=0)) / 2 if fine_tune else mean


def similarity_map(embedding: Tensor, target: Tensor, transform: ImageTransform, shape: tuple[int, int]) -> Tensor:
    """The cosine of an embedding (C, h, w) with a target (C,), enlarged to the image (H, W) as SAM's masks are."""
    cosine = torch.einsum("chw,c->hw", F.normalize(embedding, dim=0), F.normalize(target, dim=0))
    quarter = F.interpolate(cosine[None, None], scale_factor=4, mode="bilinear")
    return transform.restore(quarter, shape)[0, 0]


def attention_map(similarity: Tensor, transform: ImageTransform, stride: int = STRIDE) -> Tensor:
    """A similarity (H, W) as a bias of attention (h, w), each 0 to 1: the sigmoid of the z-score, 0 in the padding.

    The reference code stretches the map over the padding as well, which moves it off an image that is not square.
    """
    side = transform.size // stride
    height, width = (-(-length // stride) for length in transform.inner(similarity.shape))
    z = (similarity - similarity.mean()) / similarity.std().clamp(min=1e-6)
    guidance = F.interpolate(z[None, None], (height, width), mode="bilinear").sigmoid()
    return F.pad(guidance, [0, side - width, 0, side - height])[0, 0]


@contextmanager
def guided(decoder: MaskDecoder, attention: Tensor, target: Tensor) -> Iterator[None]:
    """SAM's mask decoder with target-guided attention and target-semantic prompting for the block.

    Args:
        decoder: the model's.
        attention: bias (h, w) for the image's cells.
        target: (C,), as it is: not normalised.
    """
    plain = decoder.transformer
    decoder.transformer = GuidedTransformer(plain, attention, target)
    try:
        yield
    finally:
        decoder.transformer = plain


class GuidedTransformer(nn.Module):
    """SAM's two-way transformer as PerSAM runs it.

    The tokens look at the image by softmax(softmax(q k) + attention), and the target is added to them before each
    layer. As in the reference code, whose first addition is in place, it is part of the tokens' positions, too, and
    is added once more to the queries of the last attention.
    """

    def __init__(self, transformer: TwoWayTransformer, attention: Tensor, target: Tensor):
        super().__init__()
        self.transformer = transformer
        self.attention = attention.flatten()
        self.target = target

    def forward(self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """As `TwoWayTransformer`'s: (B, C, h, w), its positions and tokens (B, N, C) -> tokens, image (B, h * w, C)."""
        keys, key_pe = (x.flatten(2).transpose(1, 2) for x in (image_embedding, image_pe))
        query_pe = point_embedding + self.target
        queries = query_pe
        for number, layer in enumerate(self.transformer.layers):
            if number == 0:
                queries = layer.norm1(layer.self_attn(q=queries, k=queries, v=queries))
            else:
                queries = queries + self.target
                q = queries + query_pe
                queries = layer.norm1(queries + layer.self_attn(q=q, k=q, v=queries))
            look = self._look(layer.cross_attn_token_to_image, queries + query_pe, keys + key_pe, keys)
            queries = layer.norm2(queries + look)
            queries = layer.norm3(queries + layer.mlp(queries))
            back = layer.cross_attn_image_to_token(q=keys + key_pe, k=queries + query_pe, v=queries)
            keys = layer.norm4(keys + back)
        last = self.transformer.final_attn_token_to_image
        queries = queries + last(q=queries + query_pe + self.target, k=keys + key_pe, v=keys)
        return self.transformer.norm_final_attn(queries), keys

    def _look(self, attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of tokens (B, N, C) to the image (B, h * w, C) with the bias added to its weights."""
        q, k, v = (
            project(x).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for project, x in ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v))
        )
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(dim=-1)
        weights = (weights + self.attention).softmax(dim=-1)
        return attention.out_proj((weights @ v).transpose(1, 2).flatten(2))


def mask_weights(answers: list[tuple[Tensor, Tensor]], steps: int = 1000) -> Tensor:
    """PerSAM-F's weights of SAM's three masks: what mixes them best into the examples' own masks.

    AdamW on two numbers (the third makes the sum 1), from 1/3 each, by Dice and focal loss. The decoder stays as it is,
    so it need not be run again.

    Args:
        answers: an example's three logits (3, N) and its mask (N,) of zeros and ones, at any resolution.

    Returns:
        (3,), with the sum 1.
    """
    free = nn.Parameter(torch.full((2,), 1 / 3, device=answers[0][0].device))
    optimizer = torch.optim.AdamW([free], lr=1e-3, eps=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        weights = torch.cat([1 - free.sum()[None], free])
        mixed = [(weights @ logits, mask) for logits, mask in answers]
        loss = sum(dice_loss(*pair) + sigmoid_focal_loss(*pair, FOCAL_ALPHA, FOCAL_GAMMA, "mean") for pair in mixed)
        optimizer.zero_grad()
        (loss / len(answers)).backward()
        optimizer.step()
        scheduler.step()
    return torch.cat([1 - free.sum()[None], free]).detach()
