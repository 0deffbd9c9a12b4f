"""The one table of encoders: a row a name, with the places that publish its weights."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import timm
import torch

from samseg.common.errors import ConfigError, did_you_mean, suggestion
from samseg.encoders.dino_layouts import DINOV2, DINOV3, TIMM
from samseg.encoders.hiera import Sam2Hiera
from samseg.encoders.layouts import MOBILE_SAM, OWN, SAM, SAM2, SAM3, Layout
from samseg.encoders.sam3 import Sam3ViT
from samseg.encoders.timm_vit import TimmViT
from samseg.encoders.tinyvit import TinyViT
from samseg.encoders.trunk import Trunk
from samseg.encoders.vit import SamViT

MEAN = (0.485, 0.456, 0.406)  # SAM's 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375 on 0..255
STD = (0.229, 0.224, 0.225)
PUBLISHED = ("pretrained", "imagenet")  # "imagenet" is what SMP and its users ask for by default
META = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_"
# The digits in the names of segment-anything's files begin their MD5; the SHA-256 are those that micro-sam and 3D
# Slicer check for the same files.
META_SAM = {
    "base": ("b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
    "large": ("l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
    "huge": ("h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
}
META_SAM2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_"


@dataclass(frozen=True)
class WeightsFile:
    """A published file with an encoder's weights.

    Attributes:
        place: a repository of the Hugging Face hub, which holds `model.safetensors`, or an address (https://...).
        megabytes: about how large the file is.
        whole: SAM's prompt encoder and mask decoder are in it, too.
        tag: by which people ask for the weights: the images that they were learnt from.
        gated: it is given to those alone who have accepted the licence on its page, and are logged in.
        sha256: of the file; None on the hub, which publishes it along with the file, and where nobody publishes it.
    """

    place: str
    megabytes: int
    whole: bool = True
    sha256: str | None = None
    tag: str = "sa-1b"
    gated: bool = False

    @property
    def on_hub(self) -> bool:
        return "://" not in self.place

    def __str__(self) -> str:
        return f"huggingface.co/{self.place}" if self.on_hub else self.place.split("://")[1]


@dataclass(frozen=True)
class Row:
    """What is known of an encoder by its name.

    Attributes:
        trunk: its network, with what that is built with.
        arguments: of the network.
        files: published ones with its weights, in the order in which they are asked for; the first is in a repository
            of the hub, the one that SMP itself reads.
        layouts: names under which publishers file its tensors (`layouts.py`).
        license: of the weights.
        image_size: pixels a side of the images that it was trained on.
        mean, std: of the same, RGB in 0..1.
        squashed: whether these were squashed to squares; otherwise they were fitted or cut.
        colours_of_tag: mean and std of a tag whose images had others.
        layer_decay: of learning rates from layer to layer, by which its authors, or others who publish their settings,
            fine-tune all of it; 1: nobody says one. `docs/encoders.md` has the sources.
    """

    trunk: Callable[..., Trunk]
    files: tuple[WeightsFile, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    layouts: tuple[Layout, ...] = (OWN,)
    license: str = "Apache-2.0"
    image_size: int = 1024
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    squashed: bool = False
    colours_of_tag: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    layer_decay: float = 1.0

    def build(self) -> Trunk:
        """The network with random weights."""
        return self.trunk(**self.arguments)

    @property
    def tags(self) -> list[str]:
        """The sets of its published weights; the first one is meant by the names of `PUBLISHED`."""
        return list(dict.fromkeys(file.tag for file in self.files))

    def tag(self, weights: str | None) -> str | None:
        """The tag that a name of weights means; None: it is that of no published ones."""
        if weights in PUBLISHED and self.files:
            return self.tags[0]
        return weights if weights in self.tags else None

    def colours(self, weights: str | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std of the images that these weights were trained on."""
        return self.colours_of_tag.get(self.tag(weights), (self.mean, self.std))

    @cached_property
    def outline(self) -> Trunk:
        """The trunk without memory for its tensors: for what it says of itself, and its tensors' names and shapes."""
        with torch.device("meta"):
            return self.build()


def timm_row(name: str) -> Row:
    """The row of a plain ViT of timm's by its name there, such as "vit_base_patch16_siglip_512.v2_webli".

    Raises ConfigError where timm knows no such network or weights, or the network cannot be cut into feature maps.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise ConfigError(f"timm has no network {architecture!r}{did_you_mean(architecture, timm.list_models())}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ConfigError(f"timm has no weights {tag!r} of {architecture}{suggestion(tag, tags)}")
    row, config = Row(TimmViT, (), dict(name=name), TIMM), timm.get_pretrained_cfg(name)
    trunk = row.outline  # which says whether it can be cut
    megabytes = round(sum(tensor.numel() for tensor in trunk.state_dict().values()) * 4 / 1e6)
    place = config.hf_hub_id if config.has_weights else None
    files = (WeightsFile(place, megabytes, whole=False, tag=tag or config.tag or "timm"),) if place else ()
    side = config.input_size[1] // trunk.patch * trunk.multiple
    return replace(
        row,
        files=files,
        license=config.license or "see its page",
        image_size=side,
        mean=config.mean,
        std=config.std,
    )


def _sam(size: str, encoder_megabytes: int, megabytes: int, layer_decay: float, **arguments: Any) -> Row:
    file, sha256 = META_SAM[size]
    files = (
        WeightsFile(f"timm/samvit_{size}_patch16.sa1b", encoder_megabytes, whole=False),
        WeightsFile(f"facebook/sam-vit-{size}", megabytes),
        WeightsFile(META + file, megabytes, sha256=sha256),
    )
    return Row(SamViT, files, arguments, SAM, layer_decay=layer_decay)


def _sam2(size: str, megabytes: int, **arguments: Any) -> Row:
    places = f"facebook/sam2.1-hiera-{size}", f"{META_SAM2}{size.replace('-', '_')}.pt"
    files = tuple(WeightsFile(place, megabytes, tag="sa-v") for place in places)
    return Row(Sam2Hiera, files, arguments, SAM2, squashed=True, layer_decay=0.9)


def _dinov3(name: str, megabytes: int, meta: str, *tags: str) -> Row:
    """Of timm's copies and then of Meta's own repositories, which want the licence accepted."""
    files = []
    for tag in ("lvd-1689m", *tags):
        places = f"timm/{name}.{tag.replace('-', '')}", f"facebook/dinov3-{meta}-pretrain-{tag.replace('-', '')}"
        files += [WeightsFile(place, megabytes, False, tag=tag, gated=place == places[1]) for place in places]
    colours = {"sat-493m": ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143))}
    row = Row(TimmViT, tuple(files), dict(name=name), DINOV3, "DINOv3 License", image_size=512, layer_decay=0.8)
    return replace(row, colours_of_tag=colours)


def _dinov2(name: str, megabytes: int, meta: str) -> Row:
    places = f"timm/{name}.lvd142m", f"facebook/dinov2-with-registers-{meta}"
    files = tuple(WeightsFile(place, megabytes, False, tag="lvd-142m") for place in places)
    return Row(TimmViT, files, dict(name=name), DINOV2, image_size=512, layer_decay=0.8)


def _pe(name: str, megabytes: int) -> Row:
    file, half = WeightsFile(f"timm/{name}.fb", megabytes, False, tag="pe-spatial"), (0.5, 0.5, 0.5)
    return Row(TimmViT, (file,), dict(name=name), TIMM, image_size=512, mean=half, std=half)


ROWS: dict[str, Row] = {
    "sam-vit_b": _sam("base", 359, 375, 0.6, width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
    "sam-vit_l": _sam("large", 1233, 1250, 0.8, width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "sam-vit_h": _sam("huge", 2548, 2565, 0.8, width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    "sam-vit_t": Row(
        TinyViT,
        (
            WeightsFile("nielsr/mobilesam", 41),
            WeightsFile(
                "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
                41,
                sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            ),
        ),
        layouts=MOBILE_SAM,
    ),
    "sam2-hiera_t": _sam2("tiny", 156, width=96, heads=1, stages=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    "sam2-hiera_s": _sam2("small", 184, width=96, heads=1, stages=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "sam2-hiera_b+": _sam2(
        "base-plus", 324, width=112, heads=2, stages=(2, 3, 16, 3), global_blocks=(12, 16, 20), positions=14
    ),
    "sam2-hiera_l": _sam2(
        "large", 898, width=144, heads=2, stages=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)
    ),
    "sam3-vit_l": Row(
        Sam3ViT,
        (WeightsFile("facebook/sam3", 3440, tag="sa-co", gated=True),),
        dict(width=1024, depth=32, heads=16, global_blocks=(7, 15, 23, 31), hidden=4736),
        SAM3,
        license="SAM License",
        image_size=1008,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        squashed=True,
        layer_decay=0.9,
    ),
    "dinov3-vit_s": _dinov3("vit_small_patch16_dinov3_qkvb", 86, "vits16"),
    "dinov3-vit_s+": _dinov3("vit_small_plus_patch16_dinov3_qkvb", 115, "vits16plus"),
    "dinov3-vit_b": _dinov3("vit_base_patch16_dinov3_qkvb", 343, "vitb16"),
    "dinov3-vit_l": _dinov3("vit_large_patch16_dinov3_qkvb", 1213, "vitl16", "sat-493m"),
    "dinov3-vit_h+": _dinov3("vit_huge_plus_patch16_dinov3_qkvb", 3362, "vith16plus"),
    "dinov2-vit_s": _dinov2("vit_small_patch14_reg4_dinov2", 88, "small"),
    "dinov2-vit_b": _dinov2("vit_base_patch14_reg4_dinov2", 346, "base"),
    "dinov2-vit_l": _dinov2("vit_large_patch14_reg4_dinov2", 1217, "large"),
    "dinov2-vit_g": _dinov2("vit_giant_patch14_reg4_dinov2", 4546, "giant"),
    "pe-vit_s": _pe("vit_pe_spatial_small_patch16_512", 88),
    "pe-vit_b": _pe("vit_pe_spatial_base_patch16_512", 346),
    "pe-vit_l": _pe("vit_pe_spatial_large_patch14_448", 1216),
}
