"""A trunk that samseg does not know: patches of 14 pixels, two prefix tokens, widths that grow, no neck."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders import Row, ops, register
from samseg.encoders.linear import Linear, is_tokenwise
from samseg.encoders.registry import WeightsFile
from samseg.encoders.trunk import Site, Trunk

FOREIGN = "foreign-vit"
PREFIX, PATCH, STRIDE = 2, 14, 16


def adapted(layer: nn.Module, out: Tensor, read: Tensor, size: tuple[int, int]) -> Tensor:
    """`out`, and what the layer's adapter, if it has one, gives for the sequence (B, PREFIX + h * w, C) it reads."""
    if layer.adapter is None:
        return out
    patches = layer.adapter(read[:, PREFIX:].unflatten(1, size)).flatten(1, 2)
    if is_tokenwise(layer.adapter):
        prefix = layer.adapter(read[:, None, :PREFIX]).squeeze(1)
    else:  # it looks at maps, which the prefix is none of
        prefix = patches.new_zeros(read.shape[0], PREFIX, patches.shape[-1])
    return out + torch.cat([prefix, patches], dim=1)


class Projection(nn.Linear):
    """The fused queries, keys and values of a sequence."""

    def __init__(self, taken: int, given: int):
        super().__init__(taken, given)
        self.adapter = None

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return adapted(self, ops.linear(x, self.weight, self.bias), x, size)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.adapter = None
        self.heads = heads
        self.qkv = Projection(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        q, k, v = self.qkv(x, size).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return adapted(self, out, out, size)


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.adapter = None
        self.fc1, self.fc2 = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return adapted(self, self.fc2(ops.gelu(self.fc1(x))), x, size)


class GrowingBlock(nn.Module):
    """Attention and an MLP, then a wider sequence."""

    def __init__(self, width: int, heads: int, wider: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), MLP(width)
        self.widen = Linear(width, wider)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + self.attn(self.norm1(x), size)
        return self.widen(x + self.mlp(self.norm2(x), size))


class GrowingViT(Trunk):
    """Blocks of growing widths over a sequence; each one's output is a map.

    Args:
        widths: of the tokens that each block reads.
        heads: of attention.
        positions: side of the map that positions are learnt for, in tokens.
    """

    multiple = STRIDE

    def __init__(self, widths: tuple[int, ...] = (16, 24, 32, 40), heads: int = 2, positions: int = 8):
        super().__init__()
        self.gradient_checkpointing = False
        self.channels, self.strides = [*widths[1:], widths[-1], widths[-1]], [STRIDE] * (len(widths) + 1)
        self.top_layer = len(widths) + 1
        self.patch_embed = nn.Conv2d(3, widths[0], kernel_size=PATCH, stride=PATCH)
        self.prefix = nn.Parameter(torch.randn(1, PREFIX, widths[0]))
        self.pos_embed = nn.Parameter(torch.randn(1, widths[0], positions, positions))
        pairs = zip(widths, [*widths[1:], widths[-1]], strict=True)
        self.blocks = nn.ModuleList(GrowingBlock(width, heads, wider) for width, wider in pairs)
        self.norm = nn.LayerNorm(widths[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        size = (x.shape[2] // STRIDE, x.shape[3] // STRIDE)
        x = F.interpolate(x, size=[side * PATCH for side in size], mode="bilinear")  # tokens now lie at stride 16
        x = self.patch_embed(x) + F.interpolate(self.pos_embed, size=size, mode="bilinear").to(x.dtype)
        x = torch.cat([self.prefix.to(x.dtype).expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        maps = []
        for block in self.blocks:
            x = self.run(block, x, size)
            maps.append(x)
        maps.append(self.norm(x))
        return [one[:, PREFIX:].unflatten(1, size).permute(0, 3, 1, 2) for one in maps]

    def first_convolution(self) -> nn.Conv2d:
        return self.patch_embed

    def layer_of(self, name: str) -> int:
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.top_layer if name.startswith("norm.") else 0

    def adapter_sites(self) -> list[Site]:
        sites = []
        for i, block in enumerate(self.blocks):
            modules = {"attn.qkv": block.attn.qkv, "attn": block.attn, "mlp": block.mlp}
            width = block.norm1.normalized_shape[0]
            sites += [Site(module, kind, width, i) for kind, module in modules.items()]
        return sites


register(FOREIGN, Row(GrowingViT, (WeightsFile("nobody/foreign", 1, whole=False),), license="MIT"))
