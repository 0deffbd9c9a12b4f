"""A linear layer with room for an adapter."""

from torch import Tensor, nn

from samseg.encoders import ops


class Linear(nn.Linear):
    """(..., in_features) -> (..., out_features), as nn.Linear.

    Attributes:
        adapter: None, or a module whose output for the same input is added.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.adapter = None

    @classmethod
    def of(cls, layer: nn.Linear) -> "Linear":
        """One that takes over another library's parameters."""
        own = cls(layer.in_features, layer.out_features)
        own.weight, own.bias = layer.weight, layer.bias
        return own

    def forward(self, x: Tensor) -> Tensor:
        out = ops.linear(x, self.weight, self.bias)
        return out if self.adapter is None else out + self.adapter(x)

    @property
    def tokenwise(self) -> bool:
        return self.adapter is None or is_tokenwise(self.adapter)


def is_tokenwise(*modules: nn.Module) -> bool:
    """Whether each declares, as `tokenwise`, that what it gives for a token depends on that token alone.

    A module that declares nothing may look at all of them.
    """
    return all(getattr(module, "tokenwise", False) for module in modules)
