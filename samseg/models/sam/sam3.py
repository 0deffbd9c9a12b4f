"""SAM 3's tracker (Carion et al., 2025, https://arxiv.org/abs/2511.16719) for images, with points, boxes and masks.

It is SAM 2's on another encoder. The detector, which takes text, is not here; reference code:
`SAM3InteractiveImagePredictor` in facebookresearch/sam3, and transformers' `Sam3TrackerModel`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from samseg.common.files import written_whole
from samseg.models.sam.names import SAM3_VISION, sam3_name, sam3_transformers_name
from samseg.models.sam.sam2 import Sam2
from samseg.models.sam.save import tensors

TABLE = "image_encoder.pos_embed"
NECKS = {  # the tracker's: the detector's
    "vision_backbone.sam2_convs.": "vision_backbone.convs.",
    "tracker_neck.": "detector_model.vision_encoder.neck.",
}


class Sam3(Sam2):
    """The tracker of a SAM of the third generation."""

    format = "sam3"
    published_name = staticmethod(sam3_name)
    transformers_name = staticmethod(sam3_transformers_name)

    def save(self, path: str | Path) -> None:
        """By sam3.pt's names, without detector and memory: sam3's `build_sam3_image_model` takes it for prompts."""
        own = tensors(self)
        own[TABLE] = F.pad(own[TABLE].flatten(1, 2), [0, 0, 1, 0])  # begins with a class token's, which nobody reads
        named = {sam3_name(name): tensor for name, tensor in own.items()}
        state = {name if name.startswith(SAM3_VISION) else f"tracker.{name}": value for name, value in named.items()}
        with written_whole(path) as temporary:
            torch.save({"model": state}, temporary)

    def save_transformers(self, folder: Path) -> None:
        """For `Sam3TrackerModel` and `Sam3TrackerProcessor`."""
        own = tensors(self)
        own[TABLE] = own[TABLE].flatten(1, 2)
        for name in [name for name in own if ".attn.qkv." in name]:
            parts = zip(("q_proj", "k_proj", "v_proj"), own.pop(name).chunk(3))
            own |= {name.replace("qkv", part): tensor for part, tensor in parts}
        self._save_transformers(folder, own, "sam3_tracker", image_processor_type="Sam3ImageProcessor")


def with_trackers_neck(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of SAM 3 with the tracker's neck in the place of the detector's; any other one as it is."""
    found, trackers = dict(state), any("tracker" in name for name in state)
    for own, detectors in NECKS.items():
        neck = {name.replace(own, detectors): tensor for name, tensor in state.items() if own in name}
        if neck or trackers:
            found = {name: one for name, one in found.items() if own not in name and detectors not in name} | neck
    return found
