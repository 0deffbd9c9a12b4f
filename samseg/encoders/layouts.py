"""Published layouts: the names under which somebody files an encoder's tensors, and how they become the trunk's own.

The same encoder is published in several; SAM's network here has segment-anything's names, SAM 2's has timm's:

    segment-anything, MobileSAM, fine-tunes   image_encoder.blocks.0.mlp.lin1.weight   beside mask_decoder.*, ...
    timm                                      blocks.0.mlp.fc1.weight
    transformers                              vision_encoder.layers.0.mlp.lin1.weight  beside mask_decoder.*, ...
    sam2                                      image_encoder.trunk.blocks.0.mlp.layers.0.weight  and image_encoder.neck.*
    transformers                              vision_encoder.backbone.blocks.0.mlp.proj_in.weight
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """A publisher's names, without the prefix that all of an encoder's tensors share.

    Attributes:
        publisher: whose it is.
        renames: patterns, and what they become in the trunk's names, one after the other. What becomes no name is left
            out. Where queries, keys and values are tensors of their own, they become "...qkv.weight@0", "@1" and "@2".
        lacks: a part of the network that the publisher leaves out; such a file is named and refused.
        convert: turns the renamed tensors into the trunk's, where names alone do not.
    """

    publisher: str
    renames: tuple[tuple[str, str], ...] = ()
    lacks: str | None = None
    convert: Callable[[Tensors], Tensors] = dict

    def rename(self, name: str) -> str:
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name

    def read(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under the trunk's names."""
        found: Tensors = {}
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in published.items():
            name, _, number = self.rename(key).partition("@")
            if number:
                parts.setdefault(name, {})[number] = value
            elif name:
                found[name] = value
        joined = {name: torch.cat([part[i] for i in sorted(part)]) for name, part in parts.items()}
        return self.convert(found | joined)


def apart(*layers: str) -> tuple[tuple[str, str], ...]:
    """Make the renames that join the three ``layers`` of queries, keys and values into one, `qkv`."""
    return tuple((rf"\.{re.escape(layer)}\.(.*)", rf".attn.qkv.\1@{i}") for i, layer in enumerate(layers))


OWN = Layout("its own")
MOBILE_SAM = (Layout("MobileSAM"),)
SAM = (
    Layout("segment-anything"),
    Layout("timm", ((r"^(blocks\.\d+\.mlp)\.fc([12])\.", r"\1.lin\2."),)),
    Layout(
        "transformers",
        (
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^layers\.(\d+)\.layer_norm([12])\.", r"blocks.\1.norm\2."),
            (r"^layers\.(\d+)\.", r"blocks.\1."),
            (r"^neck\.conv1\.", "neck.0."),
            (r"^neck\.layer_norm1\.", "neck.1."),
            (r"^neck\.conv2\.", "neck.2."),
            (r"^neck\.layer_norm2\.", "neck.3."),
        ),
    ),
)
SAM2 = (
    Layout(
        "sam2",
        (
            (r"\.mlp\.layers\.0\.", ".mlp.fc1."),
            (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
            (r"^neck\.convs\.(\d)\.conv\.", r"neck.convs.\1."),
        ),
    ),
    Layout(
        "transformers",
        (
            (r"^backbone\.", "trunk."),
            (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
            (r"\.layer_norm([12])\.", r".norm\1."),
            (r"\.mlp\.proj_in\.", ".mlp.fc1."),
            (r"\.mlp\.proj_out\.", ".mlp.fc2."),
        ),
    ),
    Layout("timm", ((r"^", "trunk."),), lacks="neck"),
)
_SAM3 = (
    (r"^trunk\.", ""),
    (r"\.mlp\.fc([12])\.", r".mlp.lin\1."),
    (r"^(sam2_)?convs\.", "neck.levels."),
    (r"\.dconv_2x2(_0)?\.", ".up1."),
    (r"\.dconv_2x2_1\.", ".up2."),
    (r"\.conv_1x1\.", ".proj1."),
    (r"\.conv_3x3\.", ".proj2."),
)
SAM3 = (  # detector.backbone.vision_backbone.trunk.*, .convs.* and, of the tracker's neck, .sam2_convs.*
    Layout("sam3", ((r"^(?!trunk\.|convs\.).*|.*\.freqs_cis$", ""), *_SAM3)),
    Layout("sam3's tracker", ((r"^(?!trunk\.|sam2_convs\.).*|.*\.freqs_cis$", ""), *_SAM3)),
    Layout(
        "transformers",
        (
            (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^backbone\.embeddings\.position_embeddings$", "pos_embed"),
            (r"^backbone\.layer_norm\.", "ln_pre."),
            (r"^backbone\.layers\.", "blocks."),
            (r"\.layer_norm([12])\.", r".norm\1."),
            (r"\.attention\.o_proj\.", ".attn.proj."),
            *apart("attention.q_proj", "attention.k_proj", "attention.v_proj"),
            (r"\.mlp\.fc([12])\.", r".mlp.lin\1."),
            (r"^neck\.fpn_layers\.", "neck.levels."),
            (r"\.scale_layers\.0\.", ".up1."),
            (r"\.scale_layers\.2\.", ".up2."),
        ),
    ),
    OWN,
)
