"""A whole SAM as files that others load: segment-anything's checkpoint, or transformers' folder."""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import Tensor, nn

from samseg.common.errors import InputError
from samseg.common.files import written_whole
from samseg.encoders.adapters.insert import adapter_name, can_be_merged, merge_adapter
from samseg.encoders.registry import MEAN, STD
from samseg.models.sam_hq import MaskDecoderHQ
from samseg.models.sam_names import POSITIONS, SHARED_POSITIONS, transformers_name


def save_sam(model: Sam, path: str | Path) -> None:
    """Write a checkpoint that segment-anything loads strictly (`sam_model_registry[...](path)`), whole or not at all.

    One with sam-vit_t is for MobileSAM's package, SAM-HQ's for segment-anything-hq. LoRA is merged into
    the weights written; `model` stays as it is.

    Raises:
        InputError: the model is no whole SAM, or has an adapter that cannot be merged.
    """
    state = sam_tensors(model)
    unused = model.image_encoder.trunk.unused_tensors
    state |= {f"image_encoder.{name}": torch.zeros(shape) for name, shape in unused.items()}
    with written_whole(path) as temporary:
        torch.save(state, temporary)


def save_transformers(model: Sam, folder: str | Path) -> None:
    """Write the files of an existing folder that `transformers.SamModel.from_pretrained` and `SamProcessor` take.

    Raises:
        InputError: as `save_sam`, and for sam-vit_t and SAM-HQ, which `SamModel` has no place for.
    """
    folder = Path(folder)
    if isinstance(model.mask_decoder, MaskDecoderHQ):
        raise InputError("transformers' SamModel has no place for SAM-HQ's tensors: write segment-anything's format")
    if model.image_encoder.trunk.transformers_config() is None:
        raise InputError(
            f"transformers' SamModel has no place for {model.image_encoder.variant}: write segment-anything's format"
        )
    state = {transformers_name(name): tensor for name, tensor in sam_tensors(model).items()}
    state[SHARED_POSITIONS] = state[transformers_name(POSITIONS)].clone()
    with written_whole(folder / "model.safetensors") as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary, {"format": "pt"})
    _write_json(folder / "config.json", _config(model))
    _write_json(folder / "preprocessor_config.json", _preprocessing(model.image_encoder.img_size))


def sam_tensors(model: Sam) -> dict[str, Tensor]:
    """The tensors of a whole SAM in segment-anything's names, on the CPU, LoRA merged into a copy."""
    if not isinstance(model, Sam):
        raise InputError(
            f"{type(model).__name__} is no whole SAM: it has no prompt encoder and mask decoder; build_sam makes one"
        )
    if can_be_merged(model):
        model = merge_adapter(copy.deepcopy(model))
    if (adapter := adapter_name(model)) is not None:
        raise InputError(f"a {adapter} adapter cannot be merged into SAM's weights: it depends on the image; LoRA can")
    parts: dict[str, nn.Module] = {
        "image_encoder": model.image_encoder.trunk,
        "prompt_encoder": model.prompt_encoder,
        "mask_decoder": model.mask_decoder,
    }
    return {
        f"{part}.{name}": tensor.detach().cpu()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


def _config(model: Sam) -> dict:
    """The `config.json` of transformers' `SamModel`: what differs from variant to variant."""
    vision = model.image_encoder.trunk.transformers_config()
    return {
        "architectures": ["SamModel"],
        "model_type": "sam",
        "vision_config": vision,
        "prompt_encoder_config": {"model_type": "sam_prompt_encoder", "image_size": vision["image_size"]},
        "mask_decoder_config": {"model_type": "sam_mask_decoder"},
    }


def _preprocessing(size: int) -> dict:
    """The `preprocessor_config.json` of transformers' `SamImageProcessor`."""
    return {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"longest_edge": size},
        "mask_size": {"longest_edge": size // 4},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "do_pad": True,
        "pad_size": {"height": size, "width": size},
        "mask_pad_size": {"height": size // 4, "width": size // 4},
        "resample": 2,
    }


def _write_json(path: Path, content: dict) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
