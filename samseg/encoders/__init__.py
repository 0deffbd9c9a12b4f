"""SAM's image encoders, registered with segmentation-models-pytorch on import."""

import segmentation_models_pytorch as smp

from samseg.encoders.encoder import SamEncoder
from samseg.encoders.registry import MEAN, STD, VARIANTS


def register(name: str) -> None:
    """Put the variant `name` into SMP's registry. "imagenet", SMP's default everywhere, means SA-1B here."""
    weights = {"repo_id": VARIANTS[name].sources[0].place, "revision": "main"}
    smp.encoders.encoders[name] = {
        "encoder": SamEncoder,
        "params": {"variant": name},
        "pretrained_settings": {"sa-1b": weights, "imagenet": weights},
    }


def _answer_preprocessing_offline() -> None:
    """SMP reads mean and std from the hub, in a form that SAM's repositories do not have; ours are known."""
    ask_smp = smp.encoders.get_preprocessing_params
    if ask_smp.__module__ == __name__:
        return

    def get_preprocessing_params(encoder_name: str, pretrained: str = "imagenet") -> dict:
        if encoder_name not in VARIANTS:
            return ask_smp(encoder_name, pretrained)
        available = smp.encoders.encoders[encoder_name]["pretrained_settings"].keys()
        if pretrained not in available:
            raise ValueError(f"Available pretrained options {available}")
        return {"input_space": "RGB", "input_range": [0, 1], "mean": list(MEAN), "std": list(STD)}

    smp.encoders.get_preprocessing_params = get_preprocessing_params


for _name in VARIANTS:
    register(_name)
_answer_preprocessing_offline()
