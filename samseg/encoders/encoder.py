"""Encoders: a trunk at any image size, and for SMP with the pyramid. forward = pyramid(taps(image))."""

import warnings
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.encoders._base import EncoderMixin
from segmentation_models_pytorch.encoders._utils import patch_first_conv
from torch import Tensor, nn

from samseg.encoders.pyramid import LEVEL_CHANNELS, Pyramid
from samseg.encoders.registry import ROWS
from samseg.encoders.trunk import Trunk
from samseg.encoders.weights import trunk_state


def trunk_of(model: nn.Module) -> Trunk | None:
    """The trunk of a model's encoder, or of an encoder; None where the encoder is another library's."""
    trunk = getattr(getattr(model, "encoder", model), "trunk", None)
    return trunk if isinstance(trunk, Trunk) else None


class TrunkEncoder(nn.Module):
    """A trunk at any image size, with chosen maps, and frozen parts that stay as they are.

    `trunk` holds the pretrained network with its own tensor names.

    Args:
        variant: a row of the registry, such as "sam-vit_b".

    Attributes:
        tap_channels, tap_strides: of what `taps` gives.
        rounded: whether the trunk, unlike all else, is in bfloat16.
    """

    def __init__(self, variant: str):
        super().__init__()
        self.variant = variant
        self.trunk = ROWS[variant].build()
        self.rounded = False
        self._in_channels = 3  # SMP's name
        self.kept = list(range(len(self.trunk.channels)))
        self.tap_channels = list(self.trunk.channels)
        self.tap_strides = list(self.trunk.strides)

    def read_bands(self, count: int) -> None:
        """Read images of ``count`` bands from here on; other than 3, the first filters are random."""
        if count != 3:
            patch_first_conv(self, new_in_channels=count, pretrained=False)
            self._in_channels = count

    def keep_taps(self, indices: Sequence[int]) -> None:
        """Give only these of the trunk's taps from here on, by index from the finest."""
        self.kept = [range(len(self.trunk.channels))[i] for i in indices]
        self.tap_channels = [self.trunk.channels[i] for i in self.kept]
        self.tap_strides = [self.trunk.strides[i] for i in self.kept]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) of any size -> [image, *taps]."""
        return self.from_taps(self.taps(x), x)

    def from_taps(self, taps: list[Tensor], x: Tensor) -> list[Tensor]:
        """What `forward` gives for the image `x` with these `taps`."""
        return [x, *taps]

    def taps(self, x: Tensor) -> list[Tensor]:
        """The trunk's own maps; the image is padded right and bottom with zeros to what the trunk takes.

        For the ViTs: the outputs (B, width, h, w) of the four global blocks and the neck's (B, 256, h, w), with
        h = ceil(H / 16), w = ceil(W / 16). For `sam-vit_t`: maps at strides 2, 4, 8, 16 and the neck's.
        """
        height, width = x.shape[2], x.shape[3]
        below, right = -height % self.trunk.multiple, -width % self.trunk.multiple
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
        """Compute the trunk in bfloat16 from here on, for prediction; what is given and taken keeps its type."""
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
        """Set the mode of all but a frozen trunk, which stays in evaluation mode: its running statistics stay."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.trunk.parameters()):
            self.trunk.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Load the trunk's weights in a published layout, or this encoder's own state.

        Raises:
            WeightsError: the weights are of another variant, or tensors are missing or left over.
        """
        return self.trunk.load_state_dict(trunk_state(state_dict, self.variant, self.trunk), strict=True, assign=assign)


class SmpEncoder(TrunkEncoder, EncoderMixin):
    """A trunk and a pyramid as an SMP encoder.

    `trunk` holds the pretrained network; `pyramid` holds every parameter that was born random.

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
        self.warned_of_frozen_pyramid = False
        self.pyramid = Pyramid(self.trunk.channels, self.trunk.strides, depth, output_stride)

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
        if not self.warned_of_frozen_pyramid and not any(p.requires_grad for p in self.pyramid.parameters()):
            self.warned_of_frozen_pyramid = True
            warnings.warn(
                "the encoder's pyramid is frozen although it was not pretrained: SMP's model.freeze_encoder() freezes "
                "it, too. To train, call samseg.freeze_encoder(model), which freezes only what was pretrained.",
                stacklevel=2,
            )

    def make_dilated(self, output_stride: int) -> None:
        """Keep the levels at `output_stride` (8 or 16) and finer, as SMP's PAN and DeepLab decoders ask for."""
        if output_stride not in (8, 16):
            raise ValueError(f"{self.variant}: output stride must be 8 or 16, got {output_stride}")
        self._output_stride = output_stride
        self.pyramid.set_output_stride(output_stride)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Load an encoder's own state, or the trunk's weights in a published layout; then the pyramid stays as it is.

        Raises:
            WeightsError: the weights are of another variant, or tensors are missing or left over.
        """
        if any(key.startswith("pyramid.") for key in state_dict):
            return nn.Module.load_state_dict(self, state_dict, strict=strict, assign=assign)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)
