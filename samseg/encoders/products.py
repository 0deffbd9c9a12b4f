"""Matrix products on the CPU by the fastest public route of the machine.

Everywhere but on Intel's that is a 1x1 convolution, whose kernels are oneDNN's: tokens become the pixels of one image
whose memory is channels last, and a matrix the filters. `torch.mm` and `F.linear` go to MKL in float32, which is as
fast on Intel's processors, and the convolution packs its filters anew at each call there. Two cores, GFLOP/s of 4096
tokens and a matrix of 768 x 3072 on AMD's; of 896 tokens and one of 1024 x 3072 on a Xeon with AMX:

| | float32, Zen 5 | Zen 4 | Xeon | bfloat16, Zen 5 | Zen 4 | Xeon |
| --- | --- | --- | --- | --- | --- | --- |
| `torch.mm`, `F.linear` | 220 | 195 | 296 | 850 | 410 | 2075 |
| 1x1 convolution | 500 | 219 | 280 | 980 | 440 | 1481 |

The whole of ViT-L takes 14 % less on the Xeon by `F.linear` in bfloat16 and 7 % in float32. In bfloat16 that writes
the bias to memory first and adds the product, though; oneDNN's own call adds it, and takes the GELU, while a result is
in registers. 2048 tokens and a matrix of 768 x 3072 take 5.5 ms instead of 6.2 on the Xeon, and 7.5 instead of 8.9 with
a GELU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from samseg.machine import cpu_has_amx

CONVOLUTION = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, its padding, groups


def takes_amx(x: Tensor) -> bool:
    """Whether products of x run in AMX's tiles: then oneDNN's own call and PyTorch's attention kernel are fastest."""
    return x.dtype == torch.bfloat16 and cpu_has_amx()


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (M, K), weight (N, K), bias (N,) -> x weight^T + bias (M, N)."""
    if takes_amx(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    if cpu_has_amx():
        return F.linear(x, weight, bias)
    return _tokens(F.conv2d(_pixels(x), weight[:, :, None, None], bias))


def affine_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`affine` and then GELU of tokens (..., K), where no gradient is needed."""
    tokens = x.reshape(-1, x.shape[-1])
    if takes_amx(x):
        hidden = torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "gelu", [], "none")
    else:
        hidden = torch.ops.aten.gelu_(affine(tokens, weight, bias))
    return hidden.view(*x.shape[:-1], -1)


def affine_gradient(d_out: Tensor, weight: Tensor) -> Tensor:
    """d_out (M, N), weight (N, K) -> d_out weight (M, K): the gradient of `affine`'s x."""
    if cpu_has_amx():
        return d_out @ weight
    x = d_out.new_empty(len(d_out), weight.shape[1])  # only its shape and strides are read
    return _tokens(_convolution_backward(d_out, x, weight, (True, False, False))[0])


def outer(a: Tensor, b: Tensor) -> Tensor:
    """a (M, N), b (M, K) -> a^T b (N, K): the gradient of `affine`'s weight, where a is its output's and b is x.

    In float32 by the convolution's backward pass, in bfloat16 by `torch.mm`, which is a tenth faster there. With AMX
    the narrower matrix is transposed first: for a (4096, 768) and b (4096, 3072) 12.9 ms instead of 17.7; the other way
    round, where the result is transposed as well, 19 instead of 21, and in ViT-H's width 56 instead of 75.
    """
    if takes_amx(a):
        if 2 * a.shape[1] < b.shape[1]:
            return _transposed(a) @ b
        if 2 * b.shape[1] < a.shape[1]:
            return _transposed(_transposed(b) @ a)
    if cpu_has_amx() or a.dtype != torch.float32:
        return a.t() @ b
    if a.shape[1] < b.shape[1]:  # a third slower than the other way round
        return outer(b, a).t()
    weight = a.new_empty(a.shape[1], b.shape[1])
    return _convolution_backward(a, b, weight, (False, True, False))[1].flatten(1)


class Affine(torch.autograd.Function):
    """`affine` of tokens (..., K), and its three gradients by the same route."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return affine(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _gradients(d_out.reshape(-1, d_out.shape[-1]), x, weight, ctx.needs_input_grad)


class Perceptron(torch.autograd.Function):
    """`affine`, GELU and `affine` of tokens (..., K), for training.

    Of the hidden layer, the widest of all, only what goes into the GELU is kept. The backward pass makes what comes out
    again and works where it lies. ViT-B at 1024 px, forward and backward, takes a twentieth less time in bfloat16 on a
    Xeon with AMX and a tenth less in float32, where new memory costs more than the arithmetic of a GELU.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        hidden = affine(x.reshape(-1, x.shape[-1]), weight1, bias1)
        ctx.save_for_backward(x, hidden, weight1, weight2)
        return affine(F.gelu(hidden), weight2, bias2).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, weight1, weight2 = ctx.saved_tensors
        for_weight2, for_bias2 = ctx.needs_input_grad[3:]
        d_out = d_out.reshape(-1, d_out.shape[-1])
        d_weight2 = outer(d_out, F.gelu(hidden)) if for_weight2 else None
        d_bias2 = d_out.sum(0) if for_bias2 else None
        if not any(ctx.needs_input_grad[:3]):
            return None, None, None, d_weight2, d_bias2
        d_hidden = affine_gradient(d_out, weight2)
        torch.ops.aten.gelu_backward.grad_input(d_hidden, hidden, grad_input=d_hidden)
        return *_gradients(d_hidden, x, weight1, ctx.needs_input_grad[:3]), d_weight2, d_bias2


def _gradients(d_out: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """Of d_out (M, N), the gradients of `affine`'s x (..., K), shaped as x, its weight and its bias, where wanted."""
    d_x = affine_gradient(d_out, weight).view_as(x) if wanted[0] else None
    d_weight = outer(d_out, x.reshape(-1, x.shape[-1])) if wanted[1] else None
    return d_x, d_weight, d_out.sum(0) if wanted[2] else None


def _transposed(x: Tensor) -> Tensor:
    """(M, N) -> (N, M) in memory of its own, by all cores: `contiguous` takes thrice as long, for it uses one."""
    return torch.cat([strip.t() for strip in x.split(512)], dim=1)


def _convolution_backward(d_out: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]):
    filters = weight[:, :, None, None]
    return torch.ops.aten.convolution_backward(_pixels(d_out), _pixels(x), filters, None, *CONVOLUTION, wanted)


def _pixels(x: Tensor) -> Tensor:
    """(M, K) -> (1, K, M, 1), the same memory."""
    return x[None, :, None].permute(0, 3, 1, 2)


def _tokens(x: Tensor) -> Tensor:
    """(1, N, M, 1) -> (M, N)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)
