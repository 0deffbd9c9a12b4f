"""Blocks over sequences: what timm's plain blocks compute, by our operators and with room for adapters.

A block of timm's keeps its tensors and their names; what is exchanged are the forward passes of its parts.
"""

import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionRope, GluMlp, Mlp, SwiGLU, apply_rot_embed_cat
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from samseg.encoders import ops
from samseg.encoders.linear import is_tokenwise


def _adapted(layer: nn.Module, out: Tensor, read: Tensor, size: tuple[int, int]) -> Tensor:
    """`out`, and what the layer's adapter, if it has one, gives for the sequence (B, prefix + h * w, C) it reads."""
    adapter = layer.adapter
    if adapter is None:
        return out
    if is_tokenwise(adapter):
        return out + adapter(read[:, None])[:, 0]
    prefix = read.shape[1] - size[0] * size[1]  # it looks at maps, which the prefix is no part of
    patches = adapter(read[:, prefix:].unflatten(1, size)).flatten(1, 2)
    return out + F.pad(patches, [0, 0, prefix, 0])


class SequenceBlock(nn.Module):
    """What timm's two kinds of plain block compute: they differ in the name of what scales an addition."""

    def forward(self, x: Tensor, size: tuple[int, int], rope: Tensor | None = None) -> Tensor:
        """(B, prefix + h * w, C) -> the same, with (h, w) the `size` of the map."""
        x = x + self.scaled(self.attn(self.norm1(x), size, rope), 1)
        return x + self.scaled(self.mlp(self.norm2(x), size), 2)


class PlainBlock(SequenceBlock, Block):
    def scaled(self, x: Tensor, part: int) -> Tensor:
        return (self.ls1 if part == 1 else self.ls2)(x)


class RopeBlock(SequenceBlock, EvaBlock):
    def scaled(self, x: Tensor, part: int) -> Tensor:
        gamma = self.gamma_1 if part == 1 else self.gamma_2
        return x if gamma is None else gamma * x


class SequenceAttention(nn.Module):
    """What timm's three kinds of attention over sequences compute, by our operators.

    Attributes:
        adapter: None, or a module that reads the output, and whose own is added to it; `qkv` has one, too.
    """

    def forward(self, x: Tensor, size: tuple[int, int], rope: Tensor | None) -> Tensor:
        bias = self.qkv.bias
        if bias is None and getattr(self, "q_bias", None) is not None:
            bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])
        qkv = _adapted(self.qkv, ops.linear(x, self.qkv.weight, bias), x, size)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = (self._rotated(tokens, rope) for tokens in (q, k))
        out = self.norm(ops.plain_attention(q, k, v).transpose(1, 2).flatten(2))
        out = ops.linear(out, self.proj.weight, self.proj.bias)
        return _adapted(self, out, out, size)

    def _rotated(self, x: Tensor, rope: Tensor) -> Tensor:
        """Positions as rotations of all but the prefix; x is (B, heads, N, d)."""
        prefix = self.num_prefix_tokens
        patches = apply_rot_embed_cat(x[:, :, prefix:], rope, half=getattr(self, "rotate_half", False))
        return torch.cat([x[:, :, :prefix], patches.to(x.dtype)], dim=2)


class SequenceMLP(nn.Module):
    """What timm's MLP computes, by our operators.

    Attributes:
        adapter: None, or a module whose output for the same input is added.
    """

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return _adapted(self, self.plain(x), x, size)

    def plain(self, x: Tensor) -> Tensor:
        """Without `adapter`."""
        first, second = self.fc1, self.fc2
        exact = type(self.act) is nn.GELU and self.act.approximate == "none"
        if exact and isinstance(self.norm, nn.Identity) and first.bias is not None:
            return ops.mlp(x, first.weight, first.bias, second.weight, second.bias)
        hidden = self.norm(self.act(ops.linear(x, first.weight, first.bias)))
        return ops.linear(hidden, second.weight, second.bias)


class GatedMLP(SequenceMLP):
    """The same with a gate beside the hidden layer, each with a matrix of its own."""

    def plain(self, x: Tensor) -> Tensor:
        gate, value = (ops.linear(x, layer.weight, layer.bias) for layer in (self.fc1_g, self.fc1_x))
        return ops.linear(self.norm(self.act(gate) * value), self.fc2.weight, self.fc2.bias)


class PackedMLP(SequenceMLP):
    """The same with gate and hidden layer in one matrix."""

    def plain(self, x: Tensor) -> Tensor:
        gate, value = ops.linear(x, self.fc1.weight, self.fc1.bias).chunk(2, dim=-1)
        hidden = gate * self.act(value) if self.gate_last else self.act(gate) * value
        return ops.linear(self.norm(hidden), self.fc2.weight, self.fc2.bias)


class PlainAttention(SequenceAttention, Attention):
    pass


class RopeAttention(SequenceAttention, AttentionRope):
    pass


class BiasedAttention(SequenceAttention, EvaAttention):
    pass


class PlainMLP(SequenceMLP, Mlp):
    pass


class SwigluMLP(GatedMLP, SwiGLU):
    pass


class GluMLP(PackedMLP, GluMlp):
    pass


OURS = {
    Block: PlainBlock,
    EvaBlock: RopeBlock,
    Attention: PlainAttention,
    AttentionRope: RopeAttention,
    EvaAttention: BiasedAttention,
    Mlp: PlainMLP,
    SwiGLU: SwigluMLP,
    GluMlp: GluMLP,
}


def exchange(block: nn.Module) -> None:
    """Let a block of timm's compute by our operators; its tensors stay as they are. Blocks of other parts are left."""
    parts = (block, getattr(block, "attn", None), getattr(block, "mlp", None))
    if any(type(part) not in OURS for part in parts):
        return
    if block.attn.qkv is None or getattr(block.attn, "gate", None) is not None:
        return
    for part in parts:
        part.__class__ = OURS[type(part)]
        part.adapter = None
    block.attn.qkv.adapter = None
