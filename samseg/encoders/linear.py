"""nn.Linear by the fastest public route on the machine at hand."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """(..., in_features) -> (..., out_features), as nn.Linear.

    Without gradients on the CPU it runs as a 1x1 convolution over a channels-last view: the same products and sums,
    for which oneDNN has faster kernels than the default matrix product.

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
            if needs_speed_only(x) and x.dtype == self.weight.dtype and x.is_contiguous():
                tokens = x.view(1, -1, 1, self.in_features).permute(0, 3, 1, 2)
                out = F.conv2d(tokens, self.weight[:, :, None, None], self.bias)
                return out.permute(0, 2, 3, 1).reshape(x.shape[:-1] + (self.out_features,))
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
    """Whether this is plain inference on the CPU: no gradient is needed, nothing is traced and no autocast steers."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not is_traced()
        and not torch.is_autocast_enabled("cpu")
    )


def is_traced() -> bool:
    """Whether the code runs for its record, to be exported or compiled, and not for its result."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
