"""SAM's ViT image encoder (Kirillov et al., "Segment Anything", ICCV 2023), with its module names.

Reference code: `ImageEncoderViT` in segment-anything. The numbers are the same; what differs is that any size divisible
by 16 is taken, and that the outputs of chosen blocks ("taps") are returned beside the neck's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders import ops
from samseg.encoders.attention import Attention, RelativeAttention
from samseg.encoders.linear import Linear, is_tokenwise
from samseg.encoders.norm import LayerNorm2d
from samseg.encoders.ops.layout import channels_first
from samseg.encoders.positions import resampled
from samseg.encoders.trunk import EMBEDDING, Site, Trunk

PATCH = 16


class PatchEmbed(nn.Module):
    """(B, 3, H, W) pixels -> (B, H / patch, W / patch, width) tokens."""

    def __init__(self, width: int, patch: int = PATCH, bias: bool = True):
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return ops.embed_patches(x, self.proj.weight, self.proj.bias)


class MLP(nn.Module):
    """(..., width) -> the same.

    Attributes:
        adapter: None, or a module whose output for the same input is added.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.adapter = None
        self.lin1 = Linear(width, hidden)
        self.lin2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.plain(x)
        return out if self.adapter is None else out + self.adapter(x)

    def plain(self, x: Tensor) -> Tensor:
        """Without `adapter`."""
        if self.lin1.adapter is None and self.lin2.adapter is None:
            return ops.mlp(x, self.lin1.weight, self.lin1.bias, self.lin2.weight, self.lin2.bias)
        return self.lin2(ops.gelu(self.lin1(x)))

    @property
    def tokenwise(self) -> bool:
        return is_tokenwise(self.lin1, self.lin2) and (self.adapter is None or is_tokenwise(self.adapter))


class Block(nn.Module):
    """Pre-norm transformer block over (B, H, W, C) tokens, with an MLP of ``hidden`` channels."""

    def __init__(self, attn: Attention, width: int, hidden: int, eps: float = 1e-6):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        tokens = ops.tokens_at_a_time(x)
        if tokens is not None and self._gives_the_same_in_stripes():
            return self._in_stripes(x, tokens)
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _gives_the_same_in_stripes(self) -> bool:
        """Whether nothing in the block looks beyond the stripe that it would be given."""
        if getattr(self.attn, "window", None) == 0:  # global attention is given the whole map
            return is_tokenwise(self.mlp)
        return getattr(self.attn, "rows_of_windows_apart", False) and is_tokenwise(self.mlp)

    def _in_stripes(self, x: Tensor, tokens: int) -> Tensor:
        """The same a few rows of one image at a time, for the CPU's caches: a row of windows sees no other row."""
        out = torch.empty_like(x)
        step = max(1, tokens // x.shape[2])
        if self.attn.window == 0:
            x = x + self.attn(self.norm1(x))
        else:  # whole rows of windows
            step = self.attn.window * max(1, step // self.attn.window)
        for image, image_out in zip(x, out):
            for top in range(0, x.shape[1], step):
                rows = image[None, top : top + step]
                if self.attn.window > 0:
                    rows = rows + self.attn(self.norm1(rows))
                torch.add(rows, self.mlp(self.norm2(rows)), out=image_out[None, top : top + step])
        return out


class WindowedViT(Trunk):
    """Blocks in windows and over whole maps, and a neck; the outputs of the global blocks are the taps.

    Args:
        width: channels of the tokens.
        patch_embed: embeds the image.
        blocks: the last one has global attention.
        neck: from the last tap to the image embedding.

    Attributes:
        adapter: None, or a module that is given the image and its embedded patches, and whose `addition` goes to the
            input of each block.
    """

    def __init__(self, width: int, patch_embed: PatchEmbed, blocks: list[Block], neck: nn.Module):
        super().__init__()
        self.gradient_checkpointing = False
        self.adapter = None
        self.global_blocks = [i for i, block in enumerate(blocks) if block.attn.window == 0]
        self.multiple = patch_embed.proj.kernel_size[0]
        self.channels = [width] * len(self.global_blocks) + [EMBEDDING]
        self.strides = [self.multiple] * (len(self.global_blocks) + 1)
        self.top_layer = len(blocks) + 1
        self.patch_embed = patch_embed
        self.blocks = nn.ModuleList(blocks)
        self.neck = neck

    def with_positions(self, x: Tensor) -> Tensor:
        """Embedded patches (B, h, w, width) -> what the first block reads."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), divisible by the patch's side -> the taps (B, width, h, w) and, last, the neck's output."""
        image, x = x, self.patch_embed(x)
        features = x
        if self.adapter is not None:
            features = self.adapter(image, x)
        x = self.with_positions(x)
        taps: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if self.adapter is not None:
                addition = self.adapter.addition(i, features)
                x = x if addition is None else x + addition
            x = self.run(block, x)
            if i in self.global_blocks:
                taps.append(channels_first(x))
        taps.append(self.neck(channels_first(x)))
        return taps

    def first_convolution(self) -> nn.Conv2d:
        return self.patch_embed.proj

    def layer_of(self, name: str) -> int:
        """As BEiT and timm count: patches and positions at the bottom, the blocks, the neck on top."""
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return self.top_layer if name.startswith("neck.") else 0

    def adapter_sites(self) -> list[Site]:
        width = self.channels[0]
        sites = [Site(self, "input", width, -1)]
        for i, block in enumerate(self.blocks):
            modules = {"attn.qkv": block.attn.qkv, "attn": block.attn, "mlp": block.mlp}
            sites += [Site(module, kind, width, i) for kind, module in modules.items()]
        return sites


class SamViT(WindowedViT):
    """SAM's ViT and neck.

    Args:
        width: channels of the tokens.
        depth: number of blocks.
        heads: attention heads.
        global_blocks: indices of the blocks with global attention, the last block among them; their outputs are the
            taps. All other blocks attend in windows.
        image_size: side of the square image that the position tables are made for, in pixels.
        window: side of the windows in tokens.
    """

    sam_decoders = frozenset({"sam", "sam-hq"})

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        global_blocks: tuple[int, ...],
        image_size: int = 1024,
        window: int = 14,
    ):
        tokens, patch_embed = image_size // PATCH, PatchEmbed(width)
        blocks = [
            Block(RelativeAttention(width, heads, side, side or tokens), width, 4 * width)
            for side in (0 if i in global_blocks else window for i in range(depth))
        ]
        super().__init__(width, patch_embed, blocks, sam_neck(width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, tokens, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(initialize)

    def with_positions(self, x: Tensor) -> Tensor:
        return x + resampled(self.pos_embed, x.shape[1], x.shape[2]).to(x.dtype)

    def resample_positions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        own, wanted = tensors.get("pos_embed"), self.pos_embed.shape
        if own is None or own.ndim != 4 or own.shape[3] != wanted[3] or own.shape == wanted:
            return tensors
        tables, expected = {"pos_embed": resampled(own, *wanted[1:3]).to(own.dtype)}, self.state_dict()
        for key, value in tensors.items():
            side = {"rel_pos_h": own.shape[1], "rel_pos_w": own.shape[2]}.get(key.rpartition(".")[2])
            if side is not None and key in expected and len(value) == 2 * side - 1:  # a block that looks at all of it
                row = F.interpolate(value.float().t()[None], size=len(expected[key]), mode="linear")
                tables[key] = row[0].t().to(value.dtype)
        return tensors | tables

    def transformers_config(self, image_size: int = 1024) -> dict[str, Any]:
        return {
            "model_type": "sam_vision_model",
            "hidden_size": self.channels[0],
            "mlp_dim": 4 * self.channels[0],
            "num_hidden_layers": len(self.blocks),
            "num_attention_heads": self.blocks[0].attn.heads,
            "global_attn_indexes": self.global_blocks,
            "window_size": next((block.attn.window for block in self.blocks if block.attn.window), 0),
            "image_size": self.pos_embed.shape[1] * PATCH,
        }


def sam_neck(width: int) -> nn.Sequential:
    """From the last map (B, width, h, w) to SAM's image embedding (B, 256, h, w)."""
    return nn.Sequential(
        nn.Conv2d(width, EMBEDDING, kernel_size=1, bias=False),
        LayerNorm2d(EMBEDDING),
        nn.Conv2d(EMBEDDING, EMBEDDING, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(EMBEDDING),
    )


def initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
