"""SamEncoder: what SMP sees. forward = pyramid(taps(image))."""

import warnings
from collections.abc import Mapping

import torch
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

from samseg.encoders.pyramid import LEVEL_CHANNELS, Pyramid
from samseg.encoders.trunk import TrunkEncoder


class SamEncoder(TrunkEncoder, EncoderMixin):
    """SAM's image encoder as an SMP encoder.

    `trunk` holds SAM's network with SAM's tensor names; `pyramid` holds every parameter that is not SAM's.

    Args:
        variant: a row of the registry, such as "sam-vit_b".
        depth: number of levels below the image, 1 to 5; level i has stride min(2**i, output_stride).
        output_stride: 8, 16 or 32.

    Raises:
        ValueError: for another depth or output stride.
    """

    _is_torch_scriptable = False  # TorchScript is deprecated

    def __init__(self, variant: str, depth: int = 5, output_stride: int = 32):
        if depth not in range(1, 6):
            raise ValueError(f"{variant}: encoder depth must be 1 to 5, got {depth}")
        if output_stride not in (8, 16, 32):
            raise ValueError(f"{variant}: output stride must be 8, 16 or 32, got {output_stride}")
        super().__init__(variant)
        self._depth = depth
        self._output_stride = output_stride
        self._out_channels = [3] + LEVEL_CHANNELS[:depth]
        self.told_of_frozen_pyramid = False
        self.pyramid = Pyramid(self.trunk.tap_channels, self.trunk.tap_strides, depth, output_stride)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) of any size -> [image, level 1 .. depth], level i (B, C_i, ceil(H / s_i), ceil(W / s_i))."""
        self._warn_if_pyramid_is_frozen()
        return self.from_taps(self.taps(x), x)

    def from_taps(self, taps: list[Tensor], x: Tensor) -> list[Tensor]:
        """What `forward` gives for the image `x` with these `taps`; `x` lends its shape and is the first feature."""
        levels = self.pyramid(taps)
        features = [x]
        for i, level in enumerate(levels):
            stride = min(2 ** (i + 1), self._output_stride)
            features.append(level[:, :, : -(-x.shape[2] // stride), : -(-x.shape[3] // stride)])
        return features

    def _warn_if_pyramid_is_frozen(self) -> None:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or not torch.is_grad_enabled():
            return
        if not self.told_of_frozen_pyramid and not any(p.requires_grad for p in self.pyramid.parameters()):
            self.told_of_frozen_pyramid = True
            warnings.warn(
                "the encoder's pyramid is frozen although its weights are not SAM's: SMP's model.freeze_encoder() "
                "freezes them too. To train, call samseg.freeze_encoder(model), which freezes only what SAM learned.",
                stacklevel=2,
            )

    def make_dilated(self, output_stride: int) -> None:
        """Keep the levels at `output_stride` (8 or 16) and finer, as SMP's PAN and DeepLab decoders ask for."""
        if output_stride not in (8, 16):
            raise ValueError(f"{self.variant}: output stride must be 8 or 16, got {output_stride}")
        self._output_stride = output_stride
        self.pyramid.set_output_stride(output_stride)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Load an encoder's own state, or SAM's weights in a published layout; then the pyramid stays as it is.

        Raises:
            WeightsError: SAM's weights are of another variant, or tensors are missing or left over.
        """
        if any(key.startswith("pyramid.") for key in state_dict):
            return nn.Module.load_state_dict(self, state_dict, strict=strict, assign=assign)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)
