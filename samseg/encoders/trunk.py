"""What every model wants of SAM's image encoder: any size, chosen features, frozen parts that stay as they are."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders.registry import VARIANTS
from samseg.encoders.weights import trunk_state


class TrunkEncoder(nn.Module):
    """SAM's network and nothing beside it; `trunk` holds it with SAM's tensor names.

    Args:
        variant: a row of the registry, such as "sam-vit_b".

    Attributes:
        tap_channels, tap_strides: of what `taps` gives.
        rounded: whether the trunk, unlike all else, is in bfloat16.
    """

    def __init__(self, variant: str):
        super().__init__()
        self.variant = variant
        self.trunk = VARIANTS[variant].build()
        self.rounded = False
        self.patch_stride: int = self.trunk.patch_stride
        self._in_channels = 3  # SMP's name
        self.kept: list[int] = list(range(len(self.trunk.tap_channels)))
        self.tap_channels: list[int] = list(self.trunk.tap_channels)
        self.tap_strides: list[int] = list(self.trunk.tap_strides)

    def keep_taps(self, indices: Sequence[int]) -> None:
        """Give only these of the trunk's taps from here on, by index from the finest."""
        self.kept = [range(len(self.trunk.tap_channels))[i] for i in indices]
        self.tap_channels = [self.trunk.tap_channels[i] for i in self.kept]
        self.tap_strides = [self.trunk.tap_strides[i] for i in self.kept]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) of any size -> [image, *taps]."""
        return self.from_taps(self.taps(x), x)

    def from_taps(self, taps: list[Tensor], x: Tensor) -> list[Tensor]:
        """What `forward` gives for the image `x` with these `taps`."""
        return [x, *taps]

    def taps(self, x: Tensor) -> list[Tensor]:
        """SAM's own features, finest first, the image embedding last; the image is padded right and bottom with zeros.

        For the ViTs: the outputs (B, width, h, w) of the four global blocks and the neck's (B, 256, h, w), with
        h = ceil(H / 16), w = ceil(W / 16). For `sam-vit_t`: maps at strides 2, 4, 8, 16 and the neck's.
        """
        height, width = x.shape[2], x.shape[3]
        below, right = -height % self.patch_stride, -width % self.patch_stride
        if below > 0 or right > 0:
            x = F.pad(x, [0, right, 0, below])
        if self.rounded:
            with torch.autocast(x.device.type, enabled=False):  # which may be on for the rest of the model
                return [tap.to(x.dtype) for tap in self._kept(self.trunk(x.bfloat16()))]
        if self._needs_no_graph(x):
            with torch.no_grad():
                return self._kept(self.trunk(x))
        return self._kept(self.trunk(x))

    def round_trunk(self) -> None:
        """Compute SAM's network in bfloat16 from here on, for prediction; what is given and taken keeps its type."""
        self.trunk.bfloat16()
        self.rounded = True

    def image_embedding(self, x: Tensor) -> Tensor:
        """What SAM's mask decoder is given: (B, C, H, W) -> (B, 256, ceil(H / 16), ceil(W / 16))."""
        return self.taps(x)[-1]

    def _needs_no_graph(self, x: Tensor) -> bool:
        """Whether a frozen trunk is run in training: without a graph it takes its way for inference."""
        if not torch.is_grad_enabled() or x.requires_grad or torch.jit.is_tracing() or torch.compiler.is_exporting():
            return False  # exported, a switch of the gradient mode would be an operator of its own
        return not any(parameter.requires_grad for parameter in self.trunk.parameters())

    def _kept(self, taps: list[Tensor]) -> list[Tensor]:
        return [taps[i] for i in self.kept]

    def train(self, mode: bool = True) -> "TrunkEncoder":
        """As every module's, but a trunk that is frozen stays in evaluation mode: its running statistics stay SAM's."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.trunk.parameters()):
            self.trunk.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Load SAM's image encoder in a published layout, or this encoder's own state.

        Raises:
            WeightsError: the weights are of another variant, or tensors are missing or left over.
        """
        return self.trunk.load_state_dict(trunk_state(state_dict, self.variant, self.trunk), strict=True, assign=assign)
