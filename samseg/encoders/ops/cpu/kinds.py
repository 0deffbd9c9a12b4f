"""What each kind of CPU computes with: a row for each that was measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samseg.encoders.ops.cpu import products


@dataclass(frozen=True)
class Kernels:
    """The routes of one kind of CPU in one type; the defaults are PyTorch's own.

    Attributes:
        linear, d_input, d_weight: of `products.py`.
        gelu_of_linear: a linear layer and a GELU at once, where no gradient is needed; None: one after the other.
        flash: whether attention goes forward by PyTorch's kernel (`flash.py`), and over whole maps by `fused.py`.
        map_a_core: whether each core attends to a map of its own, instead of all cores to one. In float32, forward and
            backward: on Zen 4 116 GFLOP/s instead of 110, with oneDNN held to AVX2 113 instead of 103; on a Xeon with
            AMX products with a narrow side reach 300 instead of 230.
        map_logits: how many logits of one large map are made at a time. With fewer products are slower.
        map_by_layers: whether the products with the probabilities of a map alone go by `linear` and `d_weight` instead
            of `torch.bmm`. Values of 512 queries and 64 x 64 keys in float32: on Zen 5 412 GFLOP/s instead of 202.
        channels_last: whether decoders want their maps' memory so.
    """

    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor] = products.linear_by_mm
    d_input: Callable[[Tensor, Tensor], Tensor] = products.d_input_by_mm
    d_weight: Callable[[Tensor, Tensor], Tensor] = products.d_weight_by_mm
    gelu_of_linear: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    flash: bool = False
    map_a_core: bool = False
    map_logits: int = 2**21
    map_by_layers: bool = False
    channels_last: bool = False

    def maps_at_a_time(self) -> int:
        """How many maps a product takes where each is large."""
        return torch.get_num_threads() if self.map_a_core else 1


AMD = Kernels(
    linear=products.linear_by_convolution, d_input=products.d_input_by_convolution, map_a_core=True, map_logits=2**20
)
AMD_BFLOAT16 = replace(AMD, map_a_core=False, map_logits=2**21)
KERNELS: dict[tuple[str, torch.dtype], Kernels] = {
    ("amd-avx2", torch.float32): AMD,  # Zen 3
    ("amd-avx512_bf16", torch.float32): AMD,  # Zen 4
    ("amd-avx512_bf16", torch.bfloat16): AMD_BFLOAT16,
    ("amd-avx512_vp2intersect", torch.float32): replace(  # Zen 5
        AMD_BFLOAT16, d_weight=products.d_weight_by_convolution, map_by_layers=True
    ),
    ("amd-avx512_vp2intersect", torch.bfloat16): AMD_BFLOAT16,
    ("intel-amx", torch.float32): Kernels(
        map_a_core=True, map_logits=2**20, map_by_layers=True, channels_last=True
    ),  # Sapphire Rapids
    ("intel-amx", torch.bfloat16): Kernels(
        linear=products.linear_by_onednn,
        d_weight=products.d_weight_by_transposing,
        gelu_of_linear=products.gelu_of_linear_by_onednn,
        flash=True,
        map_a_core=True,
        map_logits=2**20,  # with more backward takes 6 % longer
        channels_last=True,
    ),
}
