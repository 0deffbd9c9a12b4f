"""nn.Linear by the fastest public route on the machine at hand."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders.products import Affine


class Linear(nn.Linear):
    """(..., in_features) -> (..., out_features), as nn.Linear.

    On the CPU it runs forward and backward by the routes of `products.py`: the same products and sums.

    Attributes:
        adapter: None, or a module whose output for the same input is added.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.adapter = None

    def forward(self, x: Tensor) -> Tensor:
        if self.adapter is not None:
            return self.product(x) + self.adapter(x)
        return self.product(x)

    def product(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            if takes_fast_products(x, self.weight):
                return Affine.apply(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)

    @torch.jit.unused
    @property
    def tokenwise(self) -> bool:
        return self.adapter is None or is_tokenwise(self.adapter)


def is_tokenwise(*modules: nn.Module) -> bool:
    """Whether each declares, as `tokenwise`, that what it gives for a token depends on that token alone.

    A module that declares nothing may look at all of them.
    """
    return all(getattr(module, "tokenwise", False) for module in modules)


def needs_speed_only(x: Tensor) -> bool:
    """Whether this is plain inference on the CPU: no gradient is needed, and it runs as written."""
    return runs_as_written(x) and not torch.is_grad_enabled()


def takes_fast_products(x: Tensor, weight: Tensor) -> bool:
    """Whether `products.py` has a route for x and the weight."""
    return runs_as_written(x) and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.bfloat16)


def runs_as_written(x: Tensor) -> bool:
    """Whether this runs on the CPU for its result, and no autocast steers."""
    return runs_on_cpu(x) and not torch.is_autocast_enabled("cpu")


def runs_on_cpu(x: Tensor) -> bool:
    """Whether this runs on the CPU for its result: nothing is traced."""
    return x.device.type == "cpu" and not is_traced()


def is_traced() -> bool:
    """Whether the code runs for its record, to be exported or compiled, and not for its result."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
