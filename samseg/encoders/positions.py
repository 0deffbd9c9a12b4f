"""Learnt positions at other sizes than the one they were learnt at."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resampled(table: Tensor, H: int, W: int) -> Tensor:
    """Positions (1, h, w, C) as (1, H, W, C): themselves at their own size, else as timm and DINO resample them."""
    if table.shape[1] == H and table.shape[2] == W:
        return table
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return _of_products(table.float(), H, W)
    table = F.interpolate(table.float().permute(0, 3, 1, 2), size=[H, W], mode="bicubic", antialias=True)
    return table.permute(0, 2, 3, 1)


def _of_products(table: Tensor, H: int, W: int) -> Tensor:
    """The same by operations of every format: torch 2.10 writes the antialiased bicubic as ONNX's plain one."""
    rows, columns = _bicubic(table.shape[1], H).to(table), _bicubic(table.shape[2], W).to(table)
    return torch.einsum("ih,bhwc,jw->bijc", rows, table, columns)


def _bicubic(taken: int, wanted: int) -> Tensor:
    """The weights (wanted, taken) with which antialiased bicubic interpolation resamples one side.

    Keys' kernel with a = -0.5 (Keys, "Cubic convolution interpolation for digital image processing", 1981), as wide as
    what it shrinks.
    """
    step = taken / wanted
    centres = (torch.arange(wanted) + 0.5) * step
    x = (torch.arange(taken) + 0.5 - centres[:, None]).abs() / max(step, 1.0)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return weights / weights.sum(dim=1, keepdim=True)
