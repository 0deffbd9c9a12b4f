"""Published layouts: the names under which somebody files an encoder's tensors, and how they become the trunk's own.

The same SAM encoder is published in several; the network here has segment-anything's names:

    segment-anything, MobileSAM, fine-tunes   image_encoder.blocks.0.mlp.lin1.weight   beside mask_decoder.*, ...
    timm                                      blocks.0.mlp.fc1.weight
    transformers                              vision_encoder.layers.0.mlp.lin1.weight  beside mask_decoder.*, ...
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """A publisher's names, without the prefix that all of an encoder's tensors share.

    Attributes:
        publisher: whose it is.
        renames: patterns, and what they become in the trunk's names, one after the other.
    """

    publisher: str
    renames: tuple[tuple[str, str], ...] = ()

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
