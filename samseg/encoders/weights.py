"""Pretrained weights go into an encoder."""

from pathlib import Path
from typing import TYPE_CHECKING

from samseg.encoders.fetch import fetch
from samseg.encoders.layouts import read_checkpoint, trunk_state
from samseg.errors import WeightsError

if TYPE_CHECKING:
    from samseg.encoders.encoder import SamEncoder

PUBLISHED = ("sa-1b", "imagenet")  # "imagenet" is what SMP and its users ask for by default


def load_sam_weights(encoder: "SamEncoder", source: str | Path) -> None:
    """Load what SAM learned into `encoder.trunk`; the pyramid stays as it is.

    Args:
        encoder: a SamEncoder, such as `smp.Unet("sam-vit_b", encoder_weights=None).encoder`.
        source: "sa-1b" for the published weights, which are downloaded where they are not here yet, or a file:
            segment-anything's or MobileSAM's `.pth`, timm's or transformers' `.safetensors`, or a fine-tune in one of
            these layouts (MedSAM, micro-sam).

    Raises:
        WeightsError: the file is missing, truncated, no checkpoint, of another variant, or lacks tensors of the
            encoder or has some too many. Nothing is loaded then.
    """
    state = read_checkpoint(fetch(encoder.variant) if str(source) in PUBLISHED else Path(source))
    try:
        encoder.trunk.load_state_dict(trunk_state(state, encoder.variant, encoder.trunk))
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from None
