"""Cutting a map of tokens into square windows and joining them, each in one pass over memory.

In plain operations (`reference.py`) the map is filled up to whole windows and then copied once more, forward
and backward. ViT-B's windows at 1024 px take 27 ms forward instead of 33 in bfloat16, and 62 instead of 82 in float32.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cut(x: Tensor, padding: Tensor, side: int) -> tuple[Tensor, ...]:
    """(B, H, W, n, heads, d) -> n times (B, rows, columns, heads, side, side, d).

    The windows at the map's lower and right edges are filled up with the padding (n, heads, d).
    """
    return _Cut.apply(x, padding, side)


def join(windows: Tensor, H: int, W: int) -> Tensor:
    """(B, rows, columns, heads, side, side, d) -> (B, H, W, heads, d), without what is beyond the edges."""
    return _Join.apply(windows, H, W)


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, padding: Tensor, side: int) -> tuple[Tensor, ...]:
        ctx.shape = x.shape
        return tuple(_windows(one, value, side) for one, value in zip(x.unbind(3), padding))

    @staticmethod
    @once_differentiable
    def backward(ctx, *d_windows: Tensor) -> tuple[Tensor | None, ...]:
        d_x = d_windows[0].new_empty(ctx.shape)
        for one, d_one in zip(d_x.unbind(3), d_windows):
            _write(one, d_one)
        if not ctx.needs_input_grad[1]:
            return d_x, None, None
        return d_x, torch.stack([_sum_beyond(d_one, *ctx.shape[1:3]) for d_one in d_windows]), None


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx, windows: Tensor, H: int, W: int) -> Tensor:
        B, _, _, heads, ctx.side, _, d = windows.shape
        x = windows.new_empty(B, H, W, heads, d)
        _write(x, windows)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, d_x: Tensor) -> tuple[Tensor | None, ...]:
        return _windows(d_x, d_x.new_zeros(1, 1), ctx.side), None, None


def _windows(x: Tensor, padding: Tensor, side: int) -> Tensor:
    B, H, W, heads, d = x.shape
    windows = x.new_empty(B, -(-H // side), -(-W // side), heads, side, side, d)
    for part, inside in _pairs(x, windows):
        inside.copy_(part)
    for beyond in _beyond(windows, H, W):
        beyond.copy_(padding[:, None, None])
    return windows


def _write(x: Tensor, windows: Tensor) -> None:
    """Copy what of the windows is on the map to the map x."""
    for part, inside in _pairs(x, windows):
        part.copy_(inside)


def _pairs(x: Tensor, windows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The same tokens of the map and of its windows, in views of one shape: of whole windows, then of others."""
    side = windows.shape[4]
    for rows, ys, height in _spans(x.shape[1], side):
        for columns, xs, width in _spans(x.shape[2], side):
            part = x[:, ys, xs].unflatten(2, (-1, width)).unflatten(1, (-1, height))
            yield part.permute(0, 1, 3, 5, 2, 4, 6), windows[:, rows, columns, :, :height, :width]


def _spans(size: int, side: int) -> Iterator[tuple[slice, slice, int]]:
    """Windows along one side of the map, their tokens, and how many each has of them: whole windows, then the last."""
    whole, rest = divmod(size, side)
    if whole:
        yield slice(0, whole), slice(0, whole * side), side
    if rest:
        yield slice(whole, whole + 1), slice(whole * side, size), rest


def _beyond(windows: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Views of what is below the map and of what is right of it; the corner is in both. Empty where windows fit."""
    side = windows.shape[4]
    height, width = (size % side or side for size in (H, W))
    return windows[:, -1:, :, :, height:], windows[:, :, -1:, :, :, width:]


def _sum_beyond(windows: Tensor, H: int, W: int) -> Tensor:
    """(heads, d): of all tokens beyond the edges."""
    below, right = _beyond(windows, H, W)
    corner, _ = _beyond(right, H, W)
    exact = torch.promote_types(windows.dtype, torch.float32)
    below, right, corner = (part.sum((0, 1, 2, 4, 5), dtype=exact) for part in (below, right, corner))
    return (below + right - corner).to(windows.dtype)
