"""The routes of a linear layer and its gradients on a CPU, of which another is the fastest on each kind.

`torch.mm` and `F.linear` go to MKL in float32. A 1x1 convolution goes to oneDNN: tokens become the pixels of one image
whose memory is channels last, and a matrix the filters, which it packs anew at each call. In bfloat16 both are
oneDNN's, and its own call adds the bias and takes the GELU while a result is in registers. Two cores, GFLOP/s of 4096
tokens and a matrix of 768 x 3072 (`samseg benchmark routes` prints them for the machine at hand):

| | | AMD Zen 3, AVX2 | Zen 4 | Zen 5 | Intel Xeon with AMX |
| --- | --- | --- | --- | --- | --- |
| float32 | forward by `F.linear` | 91 | 165 | 220 | 296 |
| | by a convolution | 108 | 185 | 500 | 280 |
| | weight's gradient by `torch.mm` | 98 | 199 | | |
| | by a convolution | 39 | 187 | | |
| bfloat16 | forward by `F.linear` | | 392 | 850 | 2075 |
| | by a convolution | | 434 | 980 | 1481 |
| | weight's gradient by `torch.mm` | | 400 | | |
| | by a convolution | | 324 | | |

With oneDNN held to AVX2 on Zen 4 (`ONEDNN_MAX_CPU_ISA=AVX2`) the weight's gradient by a convolution falls to 75.
ViT-L takes 14 % less on the Xeon by `F.linear` in bfloat16 and 7 % in float32. oneDNN's own call takes 5.5 ms there
instead of 6.2 for 2048 tokens, and 7.5 instead of 8.9 with a GELU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CONVOLUTION = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, its padding, groups


def linear_by_mm(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (M, K), weight (N, K), bias (N,) -> x weight^T + bias (M, N), as all of `linear_by_*`."""
    return F.linear(x, weight, bias)


def linear_by_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _tokens(F.conv2d(_pixels(x), weight[:, :, None, None], bias))


def linear_by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def gelu_of_linear_by_onednn(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")


def d_input_by_mm(d_out: Tensor, weight: Tensor) -> Tensor:
    """d_out (M, N), weight (N, K) -> d_out weight (M, K): the gradient of a linear layer's input."""
    return d_out @ weight


def d_input_by_convolution(d_out: Tensor, weight: Tensor) -> Tensor:
    x = d_out.new_empty(len(d_out), weight.shape[1])  # only its shape and strides are read
    return _tokens(_convolution_backward(d_out, x, weight, (True, False, False))[0])


def d_weight_by_mm(d_out: Tensor, x: Tensor) -> Tensor:
    """d_out (M, N), x (M, K) -> d_out^T x (N, K): the gradient of a linear layer's weight."""
    return d_out.t() @ x


def d_weight_by_convolution(d_out: Tensor, x: Tensor) -> Tensor:
    if d_out.shape[1] < x.shape[1]:  # a third slower than the other way round
        return d_weight_by_convolution(x, d_out).t()
    weight = d_out.new_empty(d_out.shape[1], x.shape[1])
    return _convolution_backward(d_out, x, weight, (False, True, False))[1].flatten(1)


def d_weight_by_transposing(d_out: Tensor, x: Tensor) -> Tensor:
    """By `torch.mm`, with a much narrower matrix transposed first: with AMX, for 4096 tokens of 768 and 3072 channels,
    12.9 ms instead of 17.7; the other way round, where the result is transposed as well, 19 instead of 21, and in
    ViT-H's width 56 instead of 75.
    """
    if 2 * d_out.shape[1] < x.shape[1]:
        return _transposed(d_out) @ x
    if 2 * x.shape[1] < d_out.shape[1]:
        return _transposed(_transposed(x) @ d_out)
    return d_out.t() @ x


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
