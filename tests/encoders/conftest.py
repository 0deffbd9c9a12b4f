"""Small SAM encoders in the registry, so that contracts are tested in milliseconds."""

from dataclasses import replace

from samseg.encoders import ROWS, register
from samseg.encoders.hiera import Sam2Hiera
from samseg.encoders.layouts import SAM, SAM2, SAM3
from samseg.encoders.registry import Row, WeightsFile
from samseg.encoders.sam3 import Sam3ViT
from samseg.encoders.tinyvit import TinyViT
from samseg.encoders.vit import SamViT

SMALL = "sam-vit_small"  # 8 x 8 tokens at its own size of 128 pixels
SMALL_ARGUMENTS = dict(width=32, depth=5, heads=2, global_blocks=(1, 2, 3, 4), image_size=128, window=3)
SMALL_TINY = "sam-vit_t_small"
SMALL_TINY_ARGUMENTS = dict(embed_dims=(16, 32, 48, 64), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 4))
SMALL_HIERA = "sam2-hiera_small"
SMALL_HIERA_ARGUMENTS = dict(
    width=8, heads=1, stages=(1, 2, 2, 1), global_blocks=(4,), windows=(4, 2, 6, 3), positions=3
)
SMALL_SAM3 = "sam3-vit_small"
SMALL_SAM3_ARGUMENTS = dict(width=32, depth=4, heads=2, global_blocks=(1, 3), hidden=48, window=3, positions=4)

NOBODY = (WeightsFile("nobody/nothing", 1, whole=False),)

register(SMALL, Row(SamViT, NOBODY, SMALL_ARGUMENTS, SAM))
register(SMALL_TINY, Row(TinyViT, NOBODY, SMALL_TINY_ARGUMENTS))
register(SMALL_HIERA, Row(Sam2Hiera, NOBODY, SMALL_HIERA_ARGUMENTS, SAM2, squashed=True))
HALF = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
register(SMALL_SAM3, Row(Sam3ViT, NOBODY, SMALL_SAM3_ARGUMENTS, SAM3, image_size=112, squashed=True, **HALF))

SMALL_DINOV3, SMALL_DINOV2, SMALL_PE = "dinov3-vit_small", "dinov2-vit_small", "pe-vit_small"
SMALL_VIT = dict(embed_dim=40, depth=4, num_heads=2)
_SMALL_TIMM = {
    SMALL_DINOV3: ("dinov3-vit_b", dict(name="vit_small_plus_patch16_dinov3_qkvb", init_values=1.0)),
    SMALL_DINOV2: ("dinov2-vit_b", dict(name="vit_small_patch14_reg4_dinov2", img_size=56, init_values=1.0)),
    SMALL_PE: ("pe-vit_b", dict(name="vit_pe_spatial_small_patch16_512", img_size=64, ref_feat_shape=(4, 4))),
}
for _name, (_of, _arguments) in _SMALL_TIMM.items():
    register(_name, replace(ROWS[_of], files=NOBODY, arguments=_arguments | SMALL_VIT))
