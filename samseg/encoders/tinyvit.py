"""MobileSAM's image encoder: TinyViT-5M, distilled from SAM's ViT-H.

Papers: Faster Segment Anything (https://arxiv.org/abs/2306.14289), TinyViT (https://arxiv.org/abs/2207.10666).
Reference code: mobile_sam/modeling/tiny_vit_sam.py. Module names follow it, so its tensors load as they are.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from samseg.encoders import ops
from samseg.encoders.ops.layout import channels_first, cropped
from samseg.encoders.trunk import EMBEDDING, Trunk
from samseg.encoders.vit import initialize, sam_neck


class TinyViT(Trunk):
    """A stage of convolutions and three of windowed attention, at strides 4, 8, 16 and 16, then SAM's neck.

    There is no position table: positions enter through convolutions and each window's biases, so every size divisible
    by 16 goes through the same weights. State-dict keys are MobileSAM's without `image_encoder.`; its
    checkpoints load strictly once `unused_tensors` are dropped, and nothing else may be.

    Args:
        embed_dims: channels of the four stages; the stem's first convolution has half of the first.
        depths: blocks per stage.
        num_heads: attention heads per stage (the first is not used: that stage is convolutional).
        window_sizes: side of the attention windows per stage, in tokens (the first is not used).
    """

    multiple = 16
    sam_decoders = frozenset({"sam"})
    unused_tensors = {  # TinyViT's ImageNet classifier: MobileSAM never calls it, yet its checkpoints hold it
        "norm_head.weight": (320,),
        "norm_head.bias": (320,),
        "head.weight": (1000, 320),
        "head.bias": (1000,),
    }

    def __init__(
        self,
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
    ) -> None:
        super().__init__()
        half = embed_dims[0] // 2
        self.channels = [half, *embed_dims[:3], EMBEDDING]
        self.strides = [2, 4, 8, 16, 16]
        self.gradient_checkpointing = False

        stem = nn.Sequential(_conv_norm(3, half, 3, stride=2), nn.GELU(), _conv_norm(half, embed_dims[0], 3, stride=2))
        self.patch_embed = nn.Sequential(OrderedDict(seq=stem))
        self.layers = nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(embed_dims, depths, strict=True)):
            block = partial(WindowBlock, dim, num_heads[i], window_sizes[i]) if i else partial(MBConv, dim)
            # The last merge only raises the channels: SAM's decoder wants stride 16.
            merge = PatchMerging(dim, embed_dims[i + 1], stride=2 if i < 2 else 1) if i < 3 else nn.Identity()
            blocks = nn.Sequential(*[block() for _ in range(depth)])
            self.layers.append(nn.Sequential(OrderedDict(blocks=blocks, downsample=merge)))
        self.neck = sam_neck(embed_dims[3])
        self.apply(initialize)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image (B, 3, H, W), H and W multiples of 16 -> taps (B, C, H/stride, W/stride), finest first.

        The stem's first convolution with its activation (stride 2); the blocks of the first three stages, before they
        are merged (4, 8, 16); and last the neck's output (16), which is MobileSAM's image embedding.
        """
        stem = self.patch_embed.seq
        x = stem[1](stem[0](ops.image_layout(x)))
        taps = [x]
        x = stem[2](x)
        for stage in self.layers:
            if self.recomputes:
                x = _checkpointed(stage.blocks, x)
            else:
                x = stage.blocks(x)
            taps.append(x)
            x = stage.downsample(x)
        taps[-1] = self.neck(x)
        return taps

    def first_convolution(self) -> nn.Conv2d:
        return self.patch_embed.seq[0].c


class MBConv(nn.Module):
    """Inverted bottleneck (B, dim, H, W) -> same: expand, depthwise 3x3, project, add, GELU."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = 4 * dim
        self.conv1 = _conv_norm(dim, hidden)
        self.conv2 = _conv_norm(hidden, hidden, 3, groups=hidden)
        self.conv3 = _conv_norm(hidden, dim)
        nn.init.zeros_(self.conv3.bn.weight)  # from scratch, a block starts as its shortcut
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv2(self.act(self.conv1(x))))
        return self.act(x + self.conv3(y))


class PatchMerging(nn.Module):
    """(B, dim, H, W) -> (B, out_dim, H/stride, W/stride) between two stages."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(dim, out_dim)
        self.conv2 = _conv_norm(out_dim, out_dim, 3, stride=stride, groups=out_dim)
        self.conv3 = _conv_norm(out_dim, out_dim)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.act(self.conv2(self.act(self.conv1(x)))))


class WindowBlock(nn.Module):
    """Windowed attention, a depthwise convolution that lets windows see each other, an MLP: (B, dim, H, W) -> same."""

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, num_heads, window_size)
        self.local_conv = _conv_norm(dim, dim, 3, groups=dim)
        self.mlp = nn.Sequential(
            OrderedDict(norm=nn.LayerNorm(dim), fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + channels_first(self.attn(x.permute(0, 2, 3, 1)))
        x = self.local_conv(x)
        return x + channels_first(self.mlp(x.permute(0, 2, 3, 1)))


class WindowAttention(nn.Module):
    """Multi-head attention within windows of window_size x window_size tokens: (B, H, W, dim) -> same.

    Each pair of tokens has a learned bias per head, by its absolute distance in rows and columns.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))
        steps = torch.arange(window_size)
        self.register_buffer("apart", (steps[:, None] - steps[None, :]).abs(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        size = self.window_size
        pad_h, pad_w = -H % size, -W % size
        rows, columns = (H + pad_h) // size, (W + pad_w) // size

        qkv = self.qkv(self.norm(x))
        if pad_h > 0 or pad_w > 0:
            # MobileSAM fills the last windows with zero tokens before the norm, and they take part as keys. The norm
            # of a zero token is the norm's bias: one q, k, v for them all, where computing each costs up to a third.
            filler = self.qkv(self.norm.bias).expand(B, 1, 1, 3 * C)
            qkv = torch.cat([qkv, filler.expand(B, H, pad_w, 3 * C)], dim=2)
            qkv = torch.cat([qkv, filler.expand(B, pad_h, W + pad_w, 3 * C)], dim=1)

        qkv = qkv.reshape(B, rows, size, columns, size, 3 * C).transpose(2, 3)
        # MobileSAM's order along the channels: head by head, each with its q, k and v.
        qkv = qkv.reshape(B * rows * columns, size * size, self.num_heads, 3 * (C // self.num_heads)).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=3)
        # Four dimensions for the bias: with three the fused kernel isn't taken, at twice the time on CPU.
        bias = self.bias().unsqueeze(0).to(q.dtype)
        if rows * columns == 1:  # else a program recorded with one image would take this one for the batch
            bias = bias.expand(B, -1, -1, -1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)
        if torch.compiler.is_exporting():  # else the exported view relies on the fused kernel's strides
            x = x.clone(memory_format=torch.contiguous_format)

        x = x.reshape(B, rows, columns, size, size, C).transpose(2, 3).reshape(B, rows * size, columns * size, C)
        return self.proj(cropped(x, H, W))

    def bias(self) -> Tensor:
        """What is added to the logits: (heads, N, N) for the N tokens of a window, row by row."""
        size = self.window_size
        table = self.attention_biases.view(self.num_heads, size, size)
        # A side after the other: rows are found for each pair of rows, then columns for each pair of columns.
        table = ops.lookup(table.transpose(0, 1).flatten(1), self.apart).view(size, size, self.num_heads, size)
        table = ops.lookup(table.permute(3, 2, 0, 1).flatten(1), self.apart)
        table = table.view(size, size, self.num_heads, size, size).permute(2, 3, 0, 4, 1)
        return table.flatten(1, 2).flatten(2)


def _conv_norm(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(c=conv, bn=nn.BatchNorm2d(out_channels)))


def _checkpointed(blocks: nn.Sequential, x: Tensor) -> Tensor:
    """`blocks(x)` under gradient checkpointing, counting each batch once in the running statistics of BatchNorm."""

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _untracked_statistics(blocks)

    return checkpoint(blocks, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def _untracked_statistics(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    # Not through track_running_stats: BatchNorm would then save fewer tensors than it did in the forward pass.
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
