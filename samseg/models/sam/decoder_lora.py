"""LoRA in the mask decoder: low-rank updates of the queries and values of all of its attention."""

import torch
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """A weight (out, in) -> the weight + alpha / rank * B A; nothing is added until it is trained.

    Args:
        out_features, in_features: of the weight.
        rank: of the update.
        alpha: the update is scaled by alpha / rank; None: by 1.
    """

    def __init__(self, out_features: int, in_features: int, rank: int, alpha: float | None):
        super().__init__()
        self.scale = 1.0 if alpha is None else alpha / rank
        self.a = nn.Parameter(torch.empty(rank, in_features))
        self.b = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * self.b @ self.a


def adapt_attention(mask_decoder: nn.Module, rank: int, alpha: float | None) -> None:
    """Freeze a mask decoder and give the queries and values of its attention an update each, in place."""
    mask_decoder.requires_grad_(False)
    for layer in _layers(mask_decoder):
        parametrize.register_parametrization(layer, "weight", LowRank(*layer.weight.shape, rank, alpha))


def merge_attention(mask_decoder: nn.Module) -> None:
    """Fold the updates, if there are, into the weights, in place: a plain mask decoder with the same answers."""
    for layer in _layers(mask_decoder):
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _layers(mask_decoder: nn.Module) -> list[nn.Linear]:
    attentions = [module for module in mask_decoder.modules() if isinstance(module, Attention)]
    return [layer for attention in attentions for layer in (attention.q_proj, attention.v_proj)]
