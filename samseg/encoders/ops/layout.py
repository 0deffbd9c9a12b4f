"""Maps with channels last as maps with channels first, and their parts, also where a program is recorded for ONNX.

There an example of one image must not fix the batch at one. PyTorch asks how memory lies, of a slice and before a
convolution, and where channels are last the answer is another for one image than for several.
"""

import torch
from torch import Tensor


def channels_first(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W); of the same memory, but for ONNX."""
    x = x.permute(0, 3, 1, 2)
    return x.contiguous() if torch.onnx.is_in_onnx_export() else x


def cropped(x: Tensor, H: int, W: int) -> Tensor:
    """The first H rows and W columns of a map (B, H or more, W or more, ...)."""
    if not torch.onnx.is_in_onnx_export():
        return x[:, :H, :W]
    for dim, size in ((1, H), (2, W)):
        if size < x.shape[dim]:
            x = x.index_select(dim, torch.arange(size, device=x.device))
    return x
