"""Conv-LoRA (Zhong et al., "Convolution Meets LoRA", ICLR 2024, https://arxiv.org/abs/2401.17868).

Reference code: `ConvLoRALinear` and `MoEGate` in AutoGluon. One difference: there the softmax is taken over the single
chosen expert, so that every gate is 1 and the task teaches the gate nothing. Here it is taken over all experts, and the
chosen one's share is multiplied into its output (as in Switch Transformers, Fedus et al., 2021).
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders.adapters.adapter import Adapter, Count, Limit, Positive
from samseg.encoders.adapters.auxiliary import add_auxiliary_loss
from samseg.encoders.ops import is_traced

BALANCE = 0.01  # weight of the balance loss
NOISE_FLOOR = 0.01  # the least standard deviation of the gate's noise
Several = Annotated[int, Limit("at least 2", lambda value: value >= 2)]


class ConvLoRA(Adapter):
    """What is added to qkv(x): alpha / rank * B (u + g_i expert_i(u)) with u = A x and one expert i for each image.

    Expert i enlarges u by i, convolves it with 3 x 3, applies GELU and resizes it back: a convolution that sees detail
    at its own scale. The gate reads u's mean over the image, and `Gate` chooses i.

    Attention is handed the whole map and cuts windows only after qkv. So experts convolve across the windows' borders,
    with zeros around the map, and SAM's padding tokens are never part of it: they keep qkv's bias alone. Zeros that pad
    the image itself are part of the map, as they are for SAM.

    Args:
        width: channels C of the tokens.
        out: channels D of the queries, of the keys and of the values; None: C.
        rank: channels of u.
        alpha: the update is scaled by alpha / rank.
        experts: M; the last enlarges by M.
    """

    sites = {"attn.qkv": {}}
    tokenwise = False  # the experts convolve, and the gate sees the whole image

    def __init__(
        self, width: int, out: int | None = None, *, rank: Count = 3, alpha: Positive = 32.0, experts: Several = 8
    ):
        super().__init__()
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, width))
        self.b = nn.Parameter(torch.zeros(3 * (out or width), rank))
        self.gate = Gate(rank, experts)
        # All experts in one tensor: those that are not chosen get a gradient of zero instead of none, as DDP wants it.
        self.weight = nn.Parameter(torch.empty(experts, rank, rank, 3, 3))
        self.bias = nn.Parameter(torch.zeros(experts, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)
        for expert in self.weight.data:
            nn.init.kaiming_uniform_(expert, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, H, W, C) -> (B, H, W, 3D)."""
        u = F.linear(x, self.a).permute(0, 3, 1, 2).contiguous()
        gates = self.gate(u)
        if is_traced():  # a graph cannot choose: all experts answer, and the gates silence all but one
            shares = gates.to(u.dtype)[:, :, None, None, None]
            chosen = sum(shares[:, i] * self.expert(i, u) for i in range(len(self.weight)))
        else:
            picked = gates.argmax(1).tolist()
            shares = gates.to(u.dtype).amax(1)
            chosen = torch.cat([shares[b] * self.expert(i, u[b : b + 1]) for b, i in enumerate(picked)])
        return F.linear(self.scale * (u + chosen).permute(0, 2, 3, 1), self.b)

    def expert(self, i: int, u: Tensor) -> Tensor:
        """(B, rank, H, W) -> the same, seen at i + 1 times the resolution."""
        size = u.shape[2:]
        if i > 0:
            u = F.interpolate(u, scale_factor=float(i + 1), mode="bicubic")
        u = F.gelu(F.conv2d(u, self.weight[i], self.bias[i], padding=1))
        return F.interpolate(u, size=size, mode="bicubic") if i > 0 else u


class Gate(nn.Module):
    """Noisy top-1 gating over M experts (Shazeer et al., 2017, https://arxiv.org/abs/1701.06538).

    In training, noise from torch's global generator is added to the logits, so that all experts are tried, and where
    `auxiliary_losses` are collected the balance loss 0.01 (CV^2 of importance + CV^2 of load) is handed in: importance
    is the sum of an expert's gates over the batch, load the expected number of images that choose it.
    """

    def __init__(self, rank: int, experts: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rank, experts))
        self.noise = nn.Parameter(torch.zeros(rank, experts))

    def forward(self, u: Tensor) -> Tensor:
        """(B, rank, H, W) -> float32 gates (B, M): the chosen expert's share of the softmax, 0 for the others."""
        mean = u.float().mean((2, 3)).unsqueeze(2)
        clean = (mean * self.weight).sum(1)  # not a matrix product, which autocast would round
        if not self.training:
            return _chosen(clean)
        std = F.softplus((mean * self.noise).sum(1)) + NOISE_FLOOR
        noisy = clean + std * torch.randn_like(clean)
        gates = _chosen(noisy)
        # Reckoned even where nobody collects: gradient checkpointing wants the same operations in both its passes.
        add_auxiliary_loss(BALANCE * (_cv_squared(gates.sum(0)) + _cv_squared(_load(clean, noisy, std))))
        return gates


def _chosen(logits: Tensor) -> Tensor:
    """(B, M) logits -> their softmax where they are highest, 0 elsewhere."""
    return logits.softmax(1) * F.one_hot(logits.argmax(1), logits.shape[1])


def _load(clean: Tensor, noisy: Tensor, std: Tensor) -> Tensor:
    """(B, M) logits -> (M,) expected number of images that choose each expert, were only its own noise drawn again."""
    first, second = noisy.topk(2, dim=1).values.split(1, dim=1)
    rival = torch.where(noisy == first, second, first)
    return torch.special.ndtr((clean - rival) / std).sum(0)


def _cv_squared(x: Tensor) -> Tensor:
    """The squared coefficient of variation: variance over squared mean."""
    return x.var() / (x.mean() ** 2 + 1e-10)
