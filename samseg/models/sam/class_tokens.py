"""Masks without prompts: a token and a hypernetwork for each class, beside those that SAM's mask decoder has."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from segment_anything.modeling import TwoWayTransformer
from torch import Tensor, nn

NOISE = 0.1  # of what is taken from SAM, as a share of a tensor's own standard deviation: equal tokens would stay equal
LAYERS = 3  # of a hypernetwork, as SAM's have them


class ClassTokens(nn.Module):
    """A token and a hypernetwork of its own for each class: what answers with masks when nobody prompts.

    A hypernetwork turns its token, once the transformer has shown it the image, into the weights of a 1x1 convolution
    over the upscaled embedding. All classes' are held in one tensor a layer and computed in one product, so that tens
    of classes cost little more than one.

    Args:
        classes: C.
        width: channels of the tokens.
        features: channels of the upscaled embedding.
    """

    def __init__(self, classes: int, width: int = 256, features: int = 32):
        super().__init__()
        widths = [width] * LAYERS + [features]
        self.tokens = nn.Parameter(torch.randn(classes, width))
        self.layers = nn.ModuleList(
            ClassLinear(classes, inner, outer) for inner, outer in zip(widths, widths[1:], strict=False)
        )

    def start_from(self, mask_decoder: Mapping[str, Tensor]) -> None:
        """Take SAM's token for unambiguous prompts and its hypernetwork for every class, with noise; of SAM-HQ its own.

        Args:
            mask_decoder: the tensors of SAM's mask decoder by their names in segment-anything.
        """
        hq = "hf_token.weight" in mask_decoder
        token, mlp = ("hf_token", "hf_mlp") if hq else ("mask_tokens", "output_hypernetworks_mlps.0")
        with torch.no_grad():
            self.tokens.copy_(_noisy(mask_decoder[f"{token}.weight"][0], self.tokens))
            for i, layer in enumerate(self.layers):
                name = f"{mlp}.layers.{i}"
                layer.weight.copy_(_noisy(mask_decoder[f"{name}.weight"], layer.weight))
                layer.bias.copy_(_noisy(mask_decoder[f"{name}.bias"], layer.bias))

    def filters(self, tokens: Tensor) -> Tensor:
        """Tokens as the transformer gives them (B, C, width) -> the weights of 1x1 convolutions (B, C, features)."""
        x = tokens.transpose(0, 1)  # (C, B, width): a matrix product a class
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x).transpose(0, 1)


class ClassLinear(nn.Module):
    """A linear layer for each of C classes: (C, B, inner) -> (C, B, outer)."""

    def __init__(self, classes: int, inner: int, outer: int):
        super().__init__()
        bound = inner**-0.5  # as nn.Linear begins
        self.weight = nn.Parameter(torch.empty(classes, outer, inner).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(classes, outer).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias[:, None], x, self.weight.transpose(1, 2))


def class_logits(
    class_tokens: ClassTokens,
    transformer: TwoWayTransformer,
    upscaling: Callable[[Tensor], Tensor],
    embedding: Tensor,
    positions: Tensor,
) -> tuple[Tensor, Tensor]:
    """Run SAM's mask decoder on the classes' tokens alone.

    Args:
        class_tokens, transformer, upscaling: the decoder's parts.
        embedding: of the image, SAM's embedding of "no mask prompt" added, (B, width, h, w).
        positions: (1, width, h, w).

    Returns:
        The filters of the classes (B, C, features), and the upscaled embedding (B, features, 4h, 4w) to apply them to.
    """
    B, width, h, w = embedding.shape
    tokens = class_tokens.tokens.expand(B, -1, -1)
    tokens, pixels = transformer(embedding, positions.expand(B, -1, -1, -1), tokens)
    return class_tokens.filters(tokens), upscaling(pixels.transpose(1, 2).reshape(B, width, h, w))


def _noisy(value: Tensor, like: Tensor) -> Tensor:
    """``value`` for each class, (C, ...), each with noise of its own from torch's generator."""
    spread = NOISE * value.float().std() if value.numel() > 1 else NOISE
    return value.to(like) + spread.to(like) * torch.randn_like(like)
