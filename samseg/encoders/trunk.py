"""What a trunk, a pretrained network, says of itself, so that nobody asks for its class."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

EMBEDDING = 256  # channels of the image embedding that SAM's decoders look at


@dataclass(frozen=True)
class Site:
    """A module that has an attribute `adapter`: None, or a module whose output is added to its own.

    Attributes:
        module: the module.
        kind: what the adapter reads there, as `samseg.encoders.adapters.adapter` says: "attn.qkv", a linear layer,
            "attn" or "mlp"; or "input", the trunk itself, whose adapter adds to the input of blocks.
        width: channels C of the tokens there.
        block: index of the block; -1 for "input".
        out: of "attn.qkv": channels of the queries, of the keys and of the values, where that is not C.
    """

    module: nn.Module
    kind: str
    width: int
    block: int
    out: int | None = None


class Trunk(nn.Module):
    """A pretrained network that makes feature maps of an image; subclasses fill in what stands here.

    Attributes:
        channels, strides: of the maps that `forward` gives. The last map is the context of all levels of the pyramid,
            the image embedding where the network has one; those before it, finest first, are details.
        multiple: what H and W of the image must be multiples of; the encoder pads and crops.
        top_layer: the number of the top layer as `layer_of` counts; 0: layer-wise learning rates are not for it.
        gradient_checkpointing: when training, compute the blocks again in the backward pass instead of keeping their
            activations: less memory, the same results; left to torch.compile's own judgement in compiled code. None: it
            cannot.
        sam_decoders: those of SAM's mask decoders that it serves, "sam", "sam-hq", "sam2" and "sam3": then its last map
            is their image embedding of 256 channels. For "sam-hq" its first one is the early features.
        fine_maps: indices of the maps of which, for "sam2" and "sam3", its `neck.fine` makes features of 256 channels
            at 4 and 2 times the embedding's resolution.
        unused_tensors: names and shapes of published tensors that nobody runs: dropped on loading, zeros on saving.
    """

    channels: list[int]
    strides: list[int]
    multiple: int
    top_layer: int = 0
    gradient_checkpointing: bool | None = None
    sam_decoders: frozenset[str] = frozenset()
    fine_maps: tuple[int, ...] = ()
    unused_tensors: dict[str, tuple[int, ...]] = {}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image (B, C, H, W), H and W multiples of `multiple` -> maps (B, C_i, H / strides[i], W / strides[i])."""
        raise NotImplementedError

    @property
    def recomputes(self) -> bool:
        """Whether blocks are now to be computed again in the backward pass."""
        return bool(self.gradient_checkpointing) and self.training and not torch.compiler.is_compiling()

    def run(self, block: nn.Module, *inputs: Any) -> Tensor:
        """The output of a block, which is computed again in the backward pass where the trunk `recomputes`."""
        return checkpoint(block, *inputs, use_reentrant=False) if self.recomputes else block(*inputs)

    def first_convolution(self) -> nn.Conv2d:
        """The convolution that reads the image: its filters follow the number of the image's channels."""
        raise NotImplementedError

    def layer_of(self, name: str) -> int:
        """The layer of a parameter: 0 embeds the image, `top_layer` is the top."""
        raise NotImplementedError

    def resample_positions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors with positions that were learnt at another image size resampled to this network's."""
        return tensors

    def adapter_sites(self) -> list[Site]:
        """Where adapters may go."""
        return []

    def transformers_config(self, image_size: int = 1024) -> dict[str, Any] | None:
        """The `vision_config` of transformers' SAM for this network, for images of a size; None: it has no place."""
        return None
