"""Encoders with a pretrained trunk, registered with segmentation-models-pytorch on import."""

import segmentation_models_pytorch as smp
import timm

from samseg.encoders.encoder import SmpEncoder
from samseg.encoders.registry import PUBLISHED, ROWS, Row, timm_row


def register(name: str, row: Row | None = None) -> None:
    """Make an encoder known by a name, to samseg and to SMP; without a row, a plain ViT of timm's by its name there.

    Raises ConfigError where timm knows no such network, or it cannot be cut into feature maps.
    """
    row = ROWS[name] = timm_row(name) if row is None else row
    weights = {file.tag: {"repo_id": file.place, "revision": "main"} for file in reversed(row.files) if file.on_hub}
    weights |= {name: weights[row.tags[0]] for name in PUBLISHED if row.files}
    smp.encoders.encoders[name] = {"encoder": SmpEncoder, "params": {"variant": name}, "pretrained_settings": weights}


def find_row(name: str) -> Row | None:
    """An encoder's row; None for those of other libraries. A name of timm's that nobody else knows gets a row first."""
    of_others = name in smp.encoders.encoders or name.startswith(("tu-", "timm-"))
    if name not in ROWS and not of_others and timm.is_model(name.partition(".")[0]):
        register(name)
    return ROWS.get(name)


def _answer_preprocessing_offline() -> None:
    """SMP reads mean and std from the hub, in a form that SAM's repositories do not have; ours are known."""
    ask_smp = smp.encoders.get_preprocessing_params
    if ask_smp.__module__ == __name__:
        return

    def get_preprocessing_params(encoder_name: str, pretrained: str = "imagenet") -> dict:
        row = ROWS.get(encoder_name)
        if row is None:
            return ask_smp(encoder_name, pretrained)
        available = smp.encoders.encoders[encoder_name]["pretrained_settings"].keys()
        if pretrained not in available:
            raise ValueError(f"Available pretrained options {available}")
        mean, std = row.colours(pretrained)
        return {"input_space": "RGB", "input_range": [0, 1], "mean": list(mean), "std": list(std)}

    smp.encoders.get_preprocessing_params = get_preprocessing_params


for _name, _row in ROWS.items():
    register(_name, _row)
_answer_preprocessing_offline()
