"""SAM 3's image encoder (Carion et al., 2025, https://arxiv.org/abs/2511.16719): a ViT and a neck.

Reference code: `ViT` and `Sam3DualViTDetNeck` in facebookresearch/sam3. The numbers are the same; what differs is that
any size divisible by 14 is taken, and that the outputs of the global blocks are given beside the neck's.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from samseg.encoders.attention import RotaryAttention
from samseg.encoders.trunk import EMBEDDING
from samseg.encoders.vit import Block, PatchEmbed, WindowedViT, initialize

PATCH = 14
EPS = 1e-5  # of the norms, as Meta's code has it; transformers' says 1e-6


class Neck(nn.Module):
    """Levels of 256 channels at 4, 2 and 1 times the resolution of the tokens.

    The last one is the image embedding. The others are for SAM 3's mask decoder alone, so their convolutions are frozen
    until a model with that decoder trains them. The detector and the tracker of SAM 3 have each a neck of their own:
    an encoder takes the detector's where a file holds both, a whole SAM the tracker's.
    """

    def __init__(self, width: int):
        super().__init__()
        steps = [(width, width // 2, width // 4), (width, width // 2), (width,)]
        self.levels = nn.ModuleList(_level(widths) for widths in steps)
        self.levels[:2].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """The last tap (B, width, h, w) -> the image embedding (B, 256, h, w)."""
        return self.levels[2](x)

    def fine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last tap -> the levels (B, 256, 4 h, 4 w) and (B, 256, 2 h, 2 w), of which the decoder makes details."""
        return self.levels[0](x), self.levels[1](x)


class Sam3ViT(WindowedViT):
    """SAM 3's ViT and neck; its maps lie at stride 14.

    Args:
        width: channels of the tokens.
        depth: number of blocks.
        heads: attention heads.
        global_blocks: indices of the blocks with global attention, the last block among them; their outputs are the
            taps. All other blocks attend in windows.
        hidden: channels inside the MLPs.
        window: side of the windows in tokens, which is also the length that a whole map is given.
        positions: side of the table of absolute positions, in tokens, which is tiled over the image.
    """

    sam_decoders = frozenset({"sam3"})
    fine_maps = (-2,)

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        global_blocks: tuple[int, ...],
        hidden: int,
        window: int = 24,
        positions: int = 24,
    ):
        blocks = [
            Block(RotaryAttention(width, heads, 0 if i in global_blocks else window, window), width, hidden, EPS)
            for i in range(depth)
        ]
        super().__init__(width, PatchEmbed(width, PATCH, bias=False), blocks, Neck(width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, positions, width))
        self.ln_pre = nn.LayerNorm(width, eps=EPS)
        lowest = {"proj1.weight": (EMBEDDING, width, 1, 1), "proj2.weight": (EMBEDDING, EMBEDDING, 3, 3)}
        lowest |= {"proj1.bias": (EMBEDDING,), "proj2.bias": (EMBEDDING,)}
        self.unused_tensors = {f"neck.levels.3.{name}": shape for name, shape in lowest.items()}
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(initialize)

    def with_positions(self, x: Tensor) -> Tensor:
        H, W, side = x.shape[1], x.shape[2], self.pos_embed.shape[1]
        table = self.pos_embed.tile(1, -(-H // side), -(-W // side), 1)[:, :H, :W]
        return self.ln_pre(x + table)

    def resample_positions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published, the table is a sequence (1, n, width), and Meta's begins with a class token that nobody reads."""
        table, (_, h, w, _) = tensors.get("pos_embed"), self.pos_embed.shape
        if table is None or table.ndim != 3 or table.shape[1] not in (h * w, h * w + 1):
            return tensors
        return tensors | {"pos_embed": table[:, -h * w :].unflatten(1, (h, w))}

    def transformers_config(self, image_size: int = 1008) -> dict[str, Any]:
        tokens, block = image_size // PATCH, self.blocks[0]
        return {
            "model_type": "sam3_vision_model",
            "backbone_feature_sizes": [[times * tokens] * 2 for times in (4, 2, 1)],
            "scale_factors": [4.0, 2.0, 1.0],
            "fpn_hidden_size": self.channels[-1],
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "image_size": image_size,
                "hidden_size": self.channels[0],
                "intermediate_size": block.mlp.lin1.out_features,
                "num_hidden_layers": len(self.blocks),
                "num_attention_heads": block.attn.heads,
                "layer_norm_eps": EPS,
                "window_size": block.attn.span,
                "global_attn_indexes": self.global_blocks,
                "pretrain_image_size": self.pos_embed.shape[1] * PATCH,
            },
        }


def _level(widths: tuple[int, ...]) -> nn.Sequential:
    """Twice the resolution for each further width, then the embedding's channels."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (taken, given) in enumerate(zip(widths, widths[1:]), 1):
        if i > 1:
            layers["gelu"] = nn.GELU()
        layers[f"up{i}"] = nn.ConvTranspose2d(taken, given, kernel_size=2, stride=2)
    layers["proj1"] = nn.Conv2d(widths[-1], EMBEDDING, kernel_size=1)
    layers["proj2"] = nn.Conv2d(EMBEDDING, EMBEDDING, kernel_size=3, padding=1)
    return nn.Sequential(layers)
