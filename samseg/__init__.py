"""samseg: Segment Anything's image encoder as the backbone of semantic-segmentation models.

Importing it puts the encoders of SAM, SAM 2, SAM 3, DINOv2, DINOv3 and the Perception Encoder into
segmentation-models-pytorch's registry.
"""

from importlib import import_module

from samseg._version import __version__
from samseg.encoders import register
from samseg.encoders.adapters.insert import add_adapter, merge_adapter, remove_adapter
from samseg.encoders.fetch import load_sam_weights
from samseg.models.smp import create_model
from samseg.models.trainable import freeze_encoder

__all__ = [
    "__version__",
    "OneShot",
    "Predictor",
    "SamPredictor",
    "add_adapter",
    "build_sam",
    "create_model",
    "freeze_encoder",
    "load_run",
    "load_sam_weights",
    "merge_adapter",
    "register",
    "remove_adapter",
    "save_sam",
]


LAZY = {  # what needs more than a network is imported only when it is asked for, so that `import samseg` stays quick
    "OneShot": "samseg.inference.oneshot.oneshot",
    "Predictor": "samseg.inference.predictor",
    "SamPredictor": "samseg.models.sam.predictor",
    "build_sam": "samseg.models.sam.files",
    "load_run": "samseg.runs.load",
    "save_sam": "samseg.models.sam.save",
}


def __getattr__(name: str):
    if name not in LAZY:
        raise AttributeError(f"module 'samseg' has no attribute '{name}'")
    return getattr(import_module(LAZY[name]), name)
