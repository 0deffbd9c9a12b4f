"""Who computes an operator: the only file that asks for device, type, gradient, tracing and what the CPU can do.

| where | products | attention in windows | attention over whole maps |
| --- | --- | --- | --- |
| traced, to be exported or compiled | `reference.py` | `folded.py` | `folded.py` |
| a GPU | `reference.py` | `folded.py` | `folded.py`; values stay narrow in float32, and where d + H + W is above 256 |
| the CPU, float32 or bfloat16, no autocast | by `KERNELS` | `cpu/chunked.py`, positions folded in | `cpu/chunked.py` |
| bfloat16 on a CPU with AMX | oneDNN's own call | PyTorch's kernel, positions folded in | `cpu/fused.py` |
| the CPU in any other way | `reference.py` | `cpu/chunked.py`, folded | `cpu/chunked.py` |

Folding positions into the product of queries and keys (`folded.py`) makes both H + W wider, adding them is a pass over
the logits (`cpu/chunked.py`): on the CPU the wider product is the quicker where H + W is no more than a head's width,
which is so in windows. Additions take three times as long as the wider product there in bfloat16, and as long in
float32.

`KERNELS` (`cpu/kinds.py`) has a row for each kind of CPU that was measured; all others take PyTorch's own products. A
race at run time would have another winner beside a load, with other bits.
"""

from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.common.machine import cpu_kind
from samseg.encoders.ops import reference
from samseg.encoders.ops.cpu import layers, private, products, windows
from samseg.encoders.ops.cpu.chunked import chunked_attention
from samseg.encoders.ops.cpu.flash import WIDTHS
from samseg.encoders.ops.cpu.fused import fused_attention
from samseg.encoders.ops.cpu.kinds import KERNELS, Kernels
from samseg.encoders.ops.folded import folded, folded_attention, position_logits

PLAIN = Kernels()
# Of PyTorch's kernels for GPUs. Widths that are no multiple leave its plain formula alone, with all N x N logits.
GPU_WIDTHS = 8
FLASH_WIDTH = 256  # the widest that its flash kernel takes


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `reference.linear`."""
    if _has_fast_products(x, weight):
        return layers.Linear.apply(x, weight, bias, kernels_of(x.dtype))
    return reference.linear(x, weight, bias)


def mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """As `reference.mlp`."""
    if not _has_fast_products(x, weight1):
        return reference.mlp(x, weight1, bias1, weight2, bias2)
    kernels = kernels_of(x.dtype)
    if torch.is_grad_enabled():
        return layers.MLP.apply(x, weight1, bias1, weight2, bias2, kernels)
    tokens = x.reshape(-1, x.shape[-1])
    if kernels.gelu_of_linear is None:
        hidden = torch.ops.aten.gelu_(kernels.linear(tokens, weight1, bias1))
    else:
        hidden = kernels.gelu_of_linear(tokens, weight1, bias1)
    return kernels.linear(hidden, weight2, bias2).view(x.shape)


def gelu(x: Tensor) -> Tensor:
    """GELU of a tensor that nobody else needs: without a gradient in place, or half of its time is new memory."""
    if _runs_as_written(x) and not torch.is_grad_enabled():
        return torch.ops.aten.gelu_(x)
    return F.gelu(x)


def embed_patches(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `reference.embed_patches`; as one product ViT-B's at 1024 px take 17 ms instead of 31 on a Xeon with AMX, in
    bfloat16 3 instead of 20."""
    if not _has_fast_products(x, weight):
        return reference.embed_patches(x, weight, bias)
    B, C, H, W = x.shape
    side = weight.shape[-1]
    patches = x.reshape(B, C, H // side, side, W // side, side).permute(0, 2, 4, 1, 3, 5).flatten(3)
    return layers.Linear.apply(patches, weight.flatten(1), bias, kernels_of(x.dtype))


def cut_windows(x: Tensor, padding: Tensor, side: int) -> tuple[Tensor, ...]:
    """As `reference.cut_windows`."""
    padding = padding.to(x.dtype)
    if _runs_on_cpu(x):
        return tuple(one.flatten(0, 2) for one in windows.cut(x, padding, side))
    return reference.cut_windows(x, padding, side)


def join_windows(x: Tensor, H: int, W: int) -> Tensor:
    """As `reference.join_windows`."""
    if _runs_on_cpu(x):
        rows, columns = (-(-size // x.shape[2]) for size in (H, W))
        return windows.join(x.unflatten(0, (-1, rows, columns)), H, W)
    return reference.join_windows(x, H, W)


def attention(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor) -> Tensor:
    """As `reference.attention`, with tables of any type."""
    B, heads, H, W, d = q.shape
    # Scaled as q . k is, so that queries with the tables' logits beside them need no second scale.
    tables = [(table * d**0.5).to(q.dtype) for table in (table_h, table_w)]
    if q.is_cuda and not is_traced():
        # The flash kernel, for 16 bits and up to 256, wants one width. The memory-efficient one, which takes the rest,
        # does not, and narrow values save it a third of the work and more.
        one_width = q.dtype != torch.float32 and d + H + W <= FLASH_WIDTH
        return folded_attention(q, k, v, *position_logits(q, *tables), GPU_WIDTHS, one_width)
    if not _runs_on_cpu(q):
        return folded_attention(q, k, v, *position_logits(q, *tables))
    kernels = kernels_of(q.dtype)
    if H + W <= d:
        query, key = folded(q, k, *position_logits(q, *tables), WIDTHS if kernels.flash else 1)
        return _of_maps(chunked_attention, kernels, query, key, v)
    kernel = fused_attention if kernels.flash else chunked_attention
    if torch.is_grad_enabled():
        return _of_maps(kernel, kernels, q, k, v, *position_logits(q, *tables))
    out = q.new_empty(B, H, W, heads, d).permute(0, 3, 1, 2, 4)
    together = kernels.maps_at_a_time()
    for image in range(B):
        for head in range(0, heads, together):  # copies of all would be half of the memory that a block takes
            few = (slice(image, image + 1), slice(head, head + together))
            out[few] = _of_maps(kernel, kernels, q[few], k[few], v[few], *position_logits(q[few], *tables))
    return out


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As `reference.plain_attention`."""
    return reference.plain_attention(q, k, v)


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """As `reference.lookup`, with a gradient of the same bits each time.

    On CPUs the gradient of indexing adds up a row's parts in the order in which several threads come to them, that of
    an embedding in the order of the indices; on GPUs it is the other way round.
    """
    return F.embedding(index, table) if table.device.type == "cpu" else reference.lookup(table, index)


def tokens_at_a_time(x: Tensor) -> int | None:
    """How many of the tokens (B, H, W, C) a block should work on at a time for the CPU's caches; None: on all.

    With 1024 in float32 an MLP's hidden layer stays in cache. Of half the size twice as many, or ViT-B takes a seventh
    longer on a Xeon with AMX.
    """
    return 4096 // x.element_size() if _runs_as_written(x) and not torch.is_grad_enabled() else None


def image_layout(x: Tensor) -> Tensor:
    """An image in the memory layout that a network of convolutions and tokens likes; all that follows keeps it.

    Channels last on a CPU: `sam-vit_t` takes four fifths of the time in float32 and half in bfloat16.
    """
    return x.contiguous(memory_format=torch.channels_last) if _runs_on_cpu(x) else x


def map_layout(x: Tensor) -> Tensor:
    """A feature map (B, C, h, w) in the memory layout that a decoder's convolutions like.

    Channels first: on AMD's CPUs the gradient of a convolution's weights takes up to five times as long in channels
    last. With AMX as it is: a Unet at 1024 px, forward and backward, is 1.6 times as fast on channels last in bfloat16
    and 1.3 times in float32.
    """
    return x if _runs_on_cpu(x) and kernels_of(x.dtype).channels_last else x.contiguous()


def is_traced() -> bool:
    """Whether the code runs for its record, to be exported or compiled, and not for its result."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()


def kernels_of(dtype: torch.dtype) -> Kernels:
    """What this CPU computes with in a type, by routes that this PyTorch has."""
    return _usable(KERNELS.get((cpu_kind(), dtype), PLAIN))


def missing_operators() -> list[str]:
    """PyTorch's private operators that this CPU's fast routes would use, and this version of PyTorch lacks."""
    needed = {name for (kind, _), row in KERNELS.items() if kind == cpu_kind() for name in _private_operators(row)}
    return sorted(name for name in needed if not private.works(name))


def _private_operators(row: Kernels) -> list[str]:
    linear = ["mkldnn._linear_pointwise"] if row.linear is products.linear_by_onednn else []
    return linear + (["aten._scaled_dot_product_flash_attention_for_cpu"] if row.flash else [])


@cache
def _usable(row: Kernels) -> Kernels:
    missing = [name for name in _private_operators(row) if not private.works(name)]
    if "mkldnn._linear_pointwise" in missing:
        row = replace(row, linear=PLAIN.linear, gelu_of_linear=None)
    if "aten._scaled_dot_product_flash_attention_for_cpu" in missing:
        row = replace(row, flash=False)
    return row


def _of_maps(kernel, kernels: Kernels, q: Tensor, k: Tensor, v: Tensor, *row_and_col: Tensor) -> Tensor:
    """A kernel's attention of (B, heads, H, W, any width) -> (B, heads, H, W, d)."""
    maps = [t.flatten(0, 1) for t in (q, k, v, *row_and_col)]
    if kernel is chunked_attention:
        maps = [t.flatten(1, 2) for t in maps]
    return kernel(*maps, kernels=kernels).reshape(v.shape)


def _has_fast_products(x: Tensor, weight: Tensor) -> bool:
    """Whether `KERNELS` may speak of a product of x and the weight."""
    return _runs_as_written(x) and x.dtype == weight.dtype and x.dtype in (torch.float32, torch.bfloat16)


def _runs_as_written(x: Tensor) -> bool:
    """Whether this runs on the CPU for its result, and no autocast steers."""
    return _runs_on_cpu(x) and not torch.is_autocast_enabled("cpu")


def _runs_on_cpu(x: Tensor) -> bool:
    """Whether this runs on the CPU for its result: nothing is traced."""
    return x.device.type == "cpu" and not is_traced()
