"""Published layouts: the names under which somebody files an encoder's tensors, and how they become the trunk's own.

The same encoder is published in several; SAM's network here has segment-anything's names, SAM 2's has timm's:

    segment-anything, MobileSAM, fine-tunes   image_encoder.blocks.0.mlp.lin1.weight   beside mask_decoder.*, ...
    timm                                      blocks.0.mlp.fc1.weight
    transformers                              vision_encoder.layers.0.mlp.lin1.weight  beside mask_decoder.*, ...
    sam2                                      image_encoder.trunk.blocks.0.mlp.layers.0.weight  and image_encoder.neck.*
    transformers                              vision_encoder.backbone.blocks.0.mlp.proj_in.weight
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """A publisher's names, without the prefix that all of an encoder's tensors share.

    Attributes:
        publisher: whose it is.
        renames: patterns, and what they become in the trunk's names, one after the other.
        lacks: a part of the network that the publisher leaves out; such a file is named and refused.
    """

    publisher: str
    renames: tuple[tuple[str, str], ...] = ()
    lacks: str | None = None

    def rename(self, name: str) -> str:
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


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
