"""The contract of adapters: what the one class of a method's file declares, and what follows from it.

The keyword-only arguments of its `__init__` are the method's own. Their names, types, ranges and defaults are those of
`samseg.add_adapter`, of the keys under `model.adapter` and of the documentation. What stands before them is given by
`samseg.encoders.adapters.insert`. A method becomes known by its row in `samseg.encoders.adapters.methods`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn


@dataclass(frozen=True)
class Limit:
    """The values that an argument may have, in words and as a test: ``Annotated[int, Limit("at least 2", ...)]``."""

    wanted: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Limit("at least 1", lambda value: value >= 1)]
Positive = Annotated[float, Limit("above 0", lambda value: 0 < value < math.inf)]


class Adapter(nn.Module):
    """One small trained part for each site of each chosen block: `__init__(self, width, *, ...)`, width C of tokens.

    The site's module adds what it gives to its own output:

    - "attn.qkv": reads what qkv reads, (B, H, W, C) -> (B, H, W, 3C), the whole map before it is cut into windows.
      Where queries, keys and values have D channels each, it gives (B, H, W, 3D), and `__init__` gets D as ``out``;
    - "attn": follows attention, with a skip connection: reads what attention gives, (B, H, W, C) -> the same;
    - "mlp": runs beside the MLP: reads what the MLP reads, (B, H, W, C) -> the same.

    A method that gives its update of a linear layer as a matrix (out, in) by `delta()` can be merged into the weights.

    Attributes:
        sites: the kinds of `Site` where one goes, and the arguments of `__init__` after the width that each decides.
        tokenwise: whether a token's output depends on that token alone. Then inference on a CPU may hand over a map
            in stripes; else it is handed over whole.
    """

    sites: ClassVar[dict[str, dict[str, Any]]]
    tokenwise: ClassVar[bool] = False


class InputAdapter(nn.Module):
    """One part for the whole encoder, which adds something to the input of each chosen block.

    `__init__(self, width, channels, patch, blocks, *, ...)`: C of the tokens, channels of the image, the side of a
    patch in pixels and the indices of the blocks.
    """

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """Prepare, once an image, what the additions are made of, from the (B, channels, H, W) image as the encoder is
        given it and its embedded patches (B, H / patch, W / patch, C), before positions are added."""
        raise NotImplementedError

    def addition(self, block: int, features: Tensor) -> Tensor | None:
        """What is added to the (B, H / patch, W / patch, C) input of a block; None for a block that was not chosen."""
        raise NotImplementedError
