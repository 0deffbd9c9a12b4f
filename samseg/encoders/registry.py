"""The one table of SAM's encoders: a row a variant."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from samseg.encoders.tinyvit import TinyViT
from samseg.encoders.vit import SamViT

MEAN = [0.485, 0.456, 0.406]  # SAM's 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375 on 0..255
STD = [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Variant:
    """An encoder's trunk with its arguments, and where the hub has its weights as `model.safetensors`.

    Attributes:
        repo_id: the repository of the encoder.
        whole_repo_id: the repository of the whole SAM, prompt encoder and mask decoder included.
    """

    trunk: type[nn.Module]
    repo_id: str
    arguments: dict[str, Any] = field(default_factory=dict)
    revision: str = "main"
    whole_repo_id: str | None = None

    def build(self) -> nn.Module:
        return self.trunk(**self.arguments)


VARIANTS: dict[str, Variant] = {
    "sam-vit_b": Variant(
        SamViT,
        "timm/samvit_base_patch16.sa1b",
        dict(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
        whole_repo_id="facebook/sam-vit-base",
    ),
    "sam-vit_l": Variant(
        SamViT,
        "timm/samvit_large_patch16.sa1b",
        dict(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
        whole_repo_id="facebook/sam-vit-large",
    ),
    "sam-vit_h": Variant(
        SamViT,
        "timm/samvit_huge_patch16.sa1b",
        dict(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
        whole_repo_id="facebook/sam-vit-huge",
    ),
    "sam-vit_t": Variant(TinyViT, "nielsr/mobilesam", whole_repo_id="nielsr/mobilesam"),
}
