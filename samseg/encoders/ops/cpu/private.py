"""PyTorch's private operators that fast routes use.

Another version of PyTorch may lack one, or mean something else by it: each is tried once, on a small example, and where
it does not give the plain numbers the plain route is taken.
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F

from samseg.encoders.ops.cpu import products
from samseg.encoders.ops.cpu.flash import flash_attention


@cache
def works(operator: str) -> bool:
    """Whether this PyTorch has an operator of `TRIED`, and it gives the numbers of the plain formula."""
    try:
        return TRIED[operator]()
    except Exception:  # it is gone, takes other arguments, or refuses these
        return False


def _linear() -> bool:
    x, weight, bias = (_numbers(*shape) for shape in ((64, 32), (48, 32), (48,)))
    plain = F.linear(x, weight, bias)
    pairs = (products.linear_by_onednn, plain), (products.gelu_of_linear_by_onednn, F.gelu(plain))
    return all(_agree(call(x, weight, bias), wanted) for call, wanted in pairs)


def _flash() -> bool:
    q, k, v = (_numbers(2, 40, 32) for _ in range(3))
    out, logsumexp = flash_attention(q, k, v)
    logits = q.float() @ k.float().transpose(1, 2) * 32**-0.5
    return _agree(out, logits.softmax(-1) @ v.float()) and _agree(logsumexp, logits.logsumexp(-1))


def _numbers(*shape: int) -> torch.Tensor:
    """Of a generator of their own: the numbers that a run draws stay the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def _agree(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found.float() - wanted.float()).norm() < 0.02 * wanted.float().norm())


TRIED: dict[str, Callable[[], bool]] = {
    "mkldnn._linear_pointwise": _linear,
    "aten._scaled_dot_product_flash_attention_for_cpu": _flash,
}
