"""SAM-HQ's mask decoder (Ke et al., "Segment Anything in High Quality", NeurIPS 2023).

SAM's own decoder, tensors and all, with a fifth token whose mask is drawn on finer features: the upscaled embedding
mixed with the image embedding and with the output of the ViT's first global block. Module names are those of its
published checkpoints. Reference code: `MaskDecoderHQ` in the package segment-anything-hq.
"""

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn


class MaskDecoderHQ(MaskDecoder):
    """A mask decoder whose image embeddings carry the early features behind their own channels.

    So everything that hands an embedding from the image encoder to the decoder, such as `SamPredictor`, runs on it as
    it is.

    Args:
        early_channels: C of the early features, the ViT's width.
        arguments: of `MaskDecoder`.

    Attributes:
        hq_token_only: answer with the HQ token's mask alone; by default it is added to SAM's own.
    """

    def __init__(self, *, early_channels: int, **arguments: Any):
        super().__init__(**arguments)
        width = self.transformer_dim
        fine = width // 8
        self.hq_token_only = False
        self.hf_token = nn.Embedding(1, width)
        self.hf_mlp = MLP(width, width, fine, 3)
        self.compress_vit_feat = _upscaling(early_channels, width, fine)
        self.embedding_encoder = _upscaling(width, width // 4, fine)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(fine, 2 * fine, 3, padding=1),
            LayerNorm2d(2 * fine),
            nn.GELU(),
            nn.Conv2d(2 * fine, fine, 3, padding=1),
        )

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Mask logits (B, 1, 4h, 4w) and their predicted IoU (B, 1), for the image embedding (1, 256 + C, h, w).

        With `multimask_output` SAM's part is the best of its three masks by predicted IoU, else its single mask.
        """
        masks, ious = self.predict_masks(image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings)
        if not multimask_output:
            return masks[:, :1], ious[:, :1]
        ious, best = ious[:, 1:].max(dim=1, keepdim=True)
        return masks[torch.arange(len(masks), device=masks.device), best[:, 0] + 1][:, None], ious

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """SAM's four masks, each with the HQ mask added to it or replaced by it, and their predicted IoUs.

        (B, 4, 4h, 4w) and (B, 4).
        """
        embedding, early = image_embeddings.split(
            [self.transformer_dim, image_embeddings.shape[1] - self.transformer_dim], dim=1
        )
        own_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hf_token.weight])
        prompts = len(sparse_prompt_embeddings)
        tokens = torch.cat([own_tokens.expand(prompts, -1, -1), sparse_prompt_embeddings], dim=1)
        source = embedding + dense_prompt_embeddings
        tokens, source = self.transformer(source, image_pe.expand(prompts, -1, -1, -1), tokens)

        h, w = embedding.shape[2:]
        upscaled = self.output_upscaling(source.transpose(1, 2).reshape(prompts, -1, h, w))
        fine = self.embedding_encoder(embedding) + self.compress_vit_feat(early)
        fine = self.embedding_maskfeature(upscaled) + fine
        after = self.num_mask_tokens + 1
        filters = [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = _product(torch.stack(filters, dim=1), upscaled)
        hq_mask = _product(self.hf_mlp(tokens[:, after : after + 1]), fine)
        masks = hq_mask.expand_as(masks) if self.hq_token_only else masks + hq_mask
        return masks, self.iou_prediction_head(tokens[:, 0])


def _product(filters: Tensor, features: Tensor) -> Tensor:
    """Filters (B, N, C) on features (B, C, H, W) -> (B, N, H, W)."""
    return (filters @ features.flatten(2)).unflatten(2, features.shape[2:])


def _upscaling(channels: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, hidden, kernel_size=2, stride=2),
        LayerNorm2d(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, out, kernel_size=2, stride=2),
    )
