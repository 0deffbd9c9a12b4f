"""SAM-Adapter (Chen et al., "SAM Fails to Segment Anything? SAM-Adapter", 2023, https://arxiv.org/abs/2304.09148).

Reference code: `PromptGenerator` in SAM-Adapter-PyTorch. Three differences. There the shared layer is random at first;
here it is zero, so that training starts from SAM: it alone learns in the first step, and all others from the second on.
There an image has the one size of the model, here any: low frequencies are the same share of each side. And here chosen
blocks alone may have a layer.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.common.errors import ConfigError
from samseg.encoders.adapters.adapter import Count, InputAdapter, Limit

Share = Annotated[float, Limit("a share, above 0 and below 1", lambda value: 0 < value < 1)]


class SamAdapter(InputAdapter):
    """What is added to the input of block i: up(GELU(tune_i(h + e))), with `up` shared by all blocks and zero at first.

    h is a patch embedding of the image's high frequencies, e a projection of SAM's own patch embedding.

    Args:
        width: channels C of the tokens.
        channels: of the image.
        patch: side of a patch in pixels.
        blocks: indices of the blocks.
        reduction: h and e have C / reduction channels.
        mask_ratio: share of the spectrum's area, around frequency zero, that h does not see.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        patch: int,
        blocks: list[int],
        *,
        reduction: Count = 32,
        mask_ratio: Share = 0.25,
    ):
        super().__init__()
        hidden = width // reduction
        if hidden < 1:
            raise ConfigError(f"the reduction of sam_adapter must leave 1 of {width} channels or more, got {reduction}")
        self.mask_ratio = mask_ratio
        self.detail = nn.Conv2d(channels, hidden, kernel_size=patch, stride=patch)
        self.embedding = nn.Linear(width, hidden)
        self.tune = nn.ModuleDict({str(block): nn.Linear(hidden, hidden) for block in blocks})
        self.up = nn.Linear(hidden, width)
        nn.init.normal_(self.detail.weight, std=(2 / (hidden * patch**2)) ** 0.5)
        nn.init.zeros_(self.detail.bias)
        for linear in (self.embedding, *self.tune.values()):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """h + e: image (B, channels, H, W) and tokens (B, h, w, C) -> (B, h, w, C / reduction)."""
        detail = high_frequencies(image.float(), self.mask_ratio).to(image.dtype)
        return self.detail(detail).permute(0, 2, 3, 1) + self.embedding(tokens)

    def addition(self, block: int, features: Tensor) -> Tensor | None:
        """h + e -> (B, h, w, C)."""
        if str(block) not in self.tune:
            return None
        return self.up(F.gelu(self.tune[str(block)](features)))


def high_frequencies(image: Tensor, mask_ratio: float) -> Tensor:
    """|image without its low frequencies|: of a spectrum's H rows those from -n to n - 1 are low, n the integer part of
    H sqrt(mask_ratio) / 2, of its columns likewise; where both are, it is set to zero."""
    low = [_low(side, mask_ratio, image.device) for side in image.shape[-2:]]
    kept = ~(low[0][:, None] & low[1])
    return torch.fft.ifft2(torch.fft.fft2(image) * kept).real.abs()


def _low(side: int, mask_ratio: float, device: torch.device) -> Tensor:
    """Which of the frequencies of `side` pixels are low, in the order that the FFT gives them: 0, 1 ... -2, -1."""
    n = int(side * mask_ratio**0.5 // 2)
    frequency = torch.arange(side, device=device)
    return (frequency < n) | (frequency >= side - n)
