"""SAM-HQ's part of the mask decoder (Ke et al., "Segment Anything in High Quality", NeurIPS 2023).

SAM's own decoder, tensors and all, with a fifth token whose mask is drawn on finer features: the upscaled embedding
mixed with the image embedding and with the output of the ViT's first global block. Module names are those of its
published checkpoints. Reference code: `MaskDecoderHQ` in the package segment-anything-hq.
"""

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, common
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn

from samseg.encoders.norm import LayerNorm2d
from samseg.models.sam.steps import EMBEDDING, FINE, STRIDE, best_of_three, filters, product, shown


def early_tap(strides: list[int]) -> int:
    """Which of a trunk's taps is SAM-HQ's early one: at the masks' stride 4, or else the first of the ViT."""
    return strides.index(4) if 4 in strides else 0


class Detail(nn.Module):
    """Finer features to draw masks on: the upscaled embedding, mixed, with the image embedding and early features of
    the encoder, all at stride 4.

    Args:
        channels, stride: of the early features; those of SAM's ViTs are at stride 16, and are spread as SAM-HQ does.
        norm: the kind of normalisation.
    """

    def __init__(self, channels: int, stride: int = STRIDE, norm: type[nn.Module] = LayerNorm2d):
        super().__init__()
        if stride == STRIDE:
            self.compress_vit_feat = _spread(channels, EMBEDDING, norm)
        else:
            self.compress_vit_feat = nn.Sequential(
                nn.Conv2d(channels, 2 * FINE, 3, padding=1), norm(2 * FINE), nn.GELU(), nn.Conv2d(2 * FINE, FINE, 1)
            )
        self.embedding_encoder = _spread(EMBEDDING, EMBEDDING // 4, norm)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(FINE, 2 * FINE, 3, padding=1), norm(2 * FINE), nn.GELU(), nn.Conv2d(2 * FINE, FINE, 3, padding=1)
        )

    def forward(self, upscaled: Tensor, embedding: Tensor, early: Tensor) -> Tensor:
        """(B, 32, 4h, 4w), (B, 256, h, w) and the early features -> (B, 32, 4h, 4w)."""
        return self.embedding_maskfeature(upscaled) + self.embedding_encoder(embedding) + self.compress_vit_feat(early)


class MaskDecoderHQ(MaskDecoder):
    """A mask decoder whose image embeddings carry the early features behind their own channels.

    So everything that hands an embedding from the image encoder to the decoder, such as segment-anything's
    `SamPredictor`, runs on it as it is.

    Args:
        early_channels: C of the early features, the ViT's width.
        arguments: of `MaskDecoder`.

    Attributes:
        hq_token_only: answer with the HQ token's mask alone; by default it is added to SAM's own.
    """

    def __init__(self, *, early_channels: int, **arguments: Any):
        super().__init__(**arguments)
        self.hq_token_only = False
        self.hf_token = nn.Embedding(1, EMBEDDING)
        self.hf_mlp = MLP(EMBEDDING, EMBEDDING, FINE, 3)
        # SAM-HQ has them under no name of their own; norm and sum are its own, too, to the last bit.
        for name, part in Detail(early_channels, norm=common.LayerNorm2d).named_children():
            self.add_module(name, part)

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
        return best_of_three(masks, ious) if multimask_output else (masks[:, :1], ious[:, :1])

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
        embedding, early = image_embeddings.split([EMBEDDING, image_embeddings.shape[1] - EMBEDDING], dim=1)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hf_token.weight])
        source = embedding + dense_prompt_embeddings
        tokens, pixels = shown(self.transformer, own, sparse_prompt_embeddings, source, image_pe)
        pixels = pixels.transpose(1, 2).unflatten(2, source.shape[2:])
        upscaled, after = self.output_upscaling(pixels), self.num_mask_tokens + 1
        masks = product(filters(self, tokens[:, 1:after]), upscaled)
        fine = self.embedding_encoder(embedding) + self.compress_vit_feat(early)
        hq_mask = product(self.hf_mlp(tokens[:, after : after + 1]), self.embedding_maskfeature(upscaled) + fine)
        masks = hq_mask.expand_as(masks) if self.hq_token_only else masks + hq_mask
        return masks, self.iou_prediction_head(tokens[:, 0])


def _spread(channels: int, hidden: int, norm: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, hidden, kernel_size=2, stride=2),
        norm(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, FINE, kernel_size=2, stride=2),
    )
