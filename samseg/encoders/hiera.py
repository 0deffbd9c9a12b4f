"""SAM 2's image encoder (Ravi et al., 2024, https://arxiv.org/abs/2408.00714): timm's Hiera, and SAM 2's neck.

Reference code: `ImageEncoder` in facebookresearch/sam2. The numbers are the same; what differs is that windows are cut
after the projection to queries, keys and values, as in SAM's ViT: an adapter there reads the whole map, and the tokens
that fill up windows need no product.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models.hieradet_sam2 import HieraDet, MultiScaleBlock
from torch import Tensor, nn

from samseg.encoders import ops
from samseg.encoders.attention import Attention
from samseg.encoders.linear import Linear, is_tokenwise
from samseg.encoders.ops.layout import channels_first
from samseg.encoders.trunk import EMBEDDING, Site, Trunk

VIT_B = 768  # channels of the tokens that `ops.tokens_at_a_time` counts


class PooledAttention(Attention):
    """(B, H, W, C) -> (B, H / s, W / s, D), with s = 2 where queries are pooled, which begins a stage, else 1.

    Args:
        block: timm's, whose layers it takes over.
    """

    def __init__(self, block: MultiScaleBlock):
        layers = Linear.of(block.attn.qkv), Linear.of(block.attn.proj)
        super().__init__(block.attn.num_heads, block.window_size[0], *layers)
        self.pool = block.attn.q_pool
        self.shrink = 1 if self.pool is None else 2

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.pool is not None:
            q = self.pool(q.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(0, (-1, self.heads))
        return ops.plain_attention(q.flatten(2, 3), k.flatten(2, 3), v.flatten(2, 3)).view_as(q)


class MLP(nn.Module):
    """(..., C) -> the same; timm's, whose layers it takes over.

    Attributes:
        adapter: None, or a module whose output for the same input is added.
    """

    def __init__(self, block: MultiScaleBlock):
        super().__init__()
        self.adapter = None
        self.fc1, self.fc2 = block.mlp.fc1, block.mlp.fc2

    def forward(self, x: Tensor) -> Tensor:
        out = ops.mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        return out if self.adapter is None else out + self.adapter(x)

    @property
    def tokenwise(self) -> bool:
        return self.adapter is None or is_tokenwise(self.adapter)


class Block(MultiScaleBlock):
    """(B, H, W, C) -> (B, H / s, W / s, D), as timm's; a few rows of windows at a time where caches gain by that."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = ops.tokens_at_a_time(x)
        if tokens is None or not (getattr(self.attn, "rows_of_windows_apart", False) and is_tokenwise(self.mlp)):
            return super().forward(x)
        whole, side = super().forward, self.attn.window
        tokens = tokens * VIT_B // self.dim_out  # narrower ones take less of the caches
        rows = side * max(1, tokens // (side * x.shape[2]))
        return torch.cat([torch.cat([whole(few) for few in image.split(rows, 1)], 1) for image in x.split(1)])


class Neck(nn.Module):
    """SAM 2's feature pyramid: a lateral convolution for each of the four stages, the coarsest first.

    The stages at strides 32 and 16 make the image embedding; those at 4 and 8 are for SAM 2's mask decoder alone, so
    their convolutions are frozen until a model with that decoder trains them.
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(C, EMBEDDING, kernel_size=1) for C in reversed(channels))
        self.convs[2:].requires_grad_(False)

    def forward(self, x16: Tensor, x32: Tensor) -> Tensor:
        """The image embedding (B, 256, H / 16, W / 16)."""
        return self.convs[1](x16) + F.interpolate(self.convs[0](x32), scale_factor=2.0, mode="nearest")

    def fine(self, x4: Tensor, x8: Tensor) -> tuple[Tensor, Tensor]:
        """The levels (B, 256, H / 4, W / 4) and (B, 256, H / 8, W / 8), of which SAM 2's decoder makes its details."""
        return self.convs[3](x4), self.convs[2](x8)


class Sam2Hiera(Trunk):
    """SAM 2's Hiera and neck; what it gives are the stages at strides 4, 8 and 16, and the image embedding.

    Args:
        width: channels of the tokens in the first stage; each further one has twice as many.
        heads: attention heads in the first stage; each further one has twice as many.
        stages: blocks in each of the four stages.
        global_blocks: indices of the blocks with global attention; all others attend in windows.
        windows: side of the windows in each stage, in tokens.
        positions: side of the table of positions that is resampled to the image; a second one is tiled, a window long.
    """

    multiple = 32
    sam_decoders = frozenset({"sam2"})
    fine_maps = (0, 1)

    def __init__(
        self,
        width: int,
        heads: int,
        stages: tuple[int, ...],
        global_blocks: tuple[int, ...],
        windows: tuple[int, ...] = (8, 4, 14, 7),
        positions: int = 7,
    ):
        super().__init__()
        self.gradient_checkpointing = False
        self.windows, self.global_blocks = list(windows), list(global_blocks)
        self.trunk = HieraDet(
            num_classes=0,
            embed_dim=width,
            num_heads=heads,
            stages=stages,
            global_att_blocks=global_blocks,
            window_spec=windows,
            global_pos_size=(positions, positions),
        )
        self.trunk.head = nn.Identity()
        for block in self.trunk.blocks:
            block.__class__, block.attn, block.mlp = Block, PooledAttention(block), MLP(block)
            block.is_windowed = False  # attention cuts them
        widths = [self.trunk.blocks[end].dim_out for end in self.trunk.stage_ends]
        self.neck = Neck(widths)
        self.channels, self.strides = [*widths[:3], EMBEDDING], [4, 8, 16, 16]
        self.top_layer = len(self.trunk.blocks) + 1

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W divisible by 32 -> stages (B, C, H / 4, W / 4) to 16, and the embedding (256, 16)."""
        x = self.trunk._pos_embed(self.trunk.patch_embed(x))
        maps: list[Tensor] = []
        for i, block in enumerate(self.trunk.blocks):
            x = self.run(block, x)
            if i in self.trunk.stage_ends:
                maps.append(channels_first(x))
        return [*maps[:3], self.neck(*maps[2:])]

    def first_convolution(self) -> nn.Conv2d:
        return self.trunk.patch_embed.proj

    def layer_of(self, name: str) -> int:
        """As for SAM's ViT: patches and positions at the bottom, the blocks, the neck on top."""
        if name.startswith("trunk.blocks."):
            return int(name.split(".")[2]) + 1
        return self.top_layer if name.startswith("neck.") else 0

    def transformers_config(self, image_size: int = 1024) -> dict[str, Any]:
        stages = [self.trunk.blocks[end] for end in self.trunk.stage_ends]
        ends = [-1, *self.trunk.stage_ends]
        widths = [block.dim_out for block in stages]
        return {
            "model_type": "sam2_vision_model",
            "backbone_channel_list": widths[::-1],
            "backbone_feature_sizes": [[image_size // stride] * 2 for stride in (4, 8, 16)],
            "fpn_hidden_size": self.channels[-1],
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "image_size": [image_size, image_size],
                "hidden_size": widths[0],
                "num_attention_heads": stages[0].attn.heads,
                "blocks_per_stage": [last - before for before, last in zip(ends, ends[1:])],
                "embed_dim_per_stage": widths,
                "num_attention_heads_per_stage": [block.attn.heads for block in stages],
                "window_size_per_stage": self.windows,
                "global_attention_blocks": self.global_blocks,
                "window_positional_embedding_background_size": list(self.trunk.pos_embed.shape[2:]),
            },
        }

    def adapter_sites(self) -> list[Site]:
        sites = []
        for i, block in enumerate(self.trunk.blocks):
            out = None if block.dim == block.dim_out else block.dim_out
            sites.append(Site(block.attn.qkv, "attn.qkv", block.dim, i, out))
            sites += [Site(block.attn, "attn", block.dim_out, i), Site(block.mlp, "mlp", block.dim_out, i)]
        return sites
