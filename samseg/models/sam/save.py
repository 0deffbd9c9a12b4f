"""A whole SAM as files that others load: what the families have in common."""

import copy
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from samseg.common.errors import InputError
from samseg.common.files import write_json, written_whole
from samseg.encoders.adapters.insert import adapter_name, can_be_merged, merge_adapter
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.decoder_lora import merge_attention
from samseg.models.sam.names import POSITIONS, SHARED_POSITIONS, transformers_name


def save_sam(model: PromptableSam, path: str | Path) -> None:
    """Write a checkpoint that the package of the model's authors loads strictly, whole or not at all.

    SAM's is for segment-anything, `sam_model_registry[...](path)`, that with sam-vit_t for MobileSAM's package,
    SAM-HQ's for segment-anything-hq, SAM 2's for sam2, and SAM 3's, which is the tracker, for sam3. LoRA is merged into
    the weights written; `model` stays as it is.

    Raises:
        InputError: the model is no whole SAM, or has an adapter that cannot be merged.
    """
    if not isinstance(model, PromptableSam):
        raise InputError(
            f"{type(model).__name__} is no whole SAM: it has no prompt encoder and mask decoder; build_sam makes one"
        )
    model.save(path)


def tensors(sam: PromptableSam) -> dict[str, Tensor]:
    """A SAM's tensors on the CPU, of its trunk ("image_encoder."), "prompt_encoder." and "mask_decoder.", LoRA merged.

    Raises:
        InputError: it has an adapter that cannot be merged.
    """
    if can_be_merged(sam) or any("parametrizations" in name for name in sam.mask_decoder.state_dict()):
        sam = copy.deepcopy(sam)
        merge_attention(sam.mask_decoder)
        if can_be_merged(sam):
            merge_adapter(sam)
    if (adapter := adapter_name(sam)) is not None:
        raise InputError(f"a {adapter} adapter cannot be merged into SAM's weights: it depends on the image; LoRA can")
    parts: dict[str, nn.Module] = {
        "image_encoder": sam.encoder.trunk,
        "prompt_encoder": sam.prompt_encoder,
        "mask_decoder": sam.mask_decoder,
    }
    return {
        f"{part}.{name}": tensor.detach().cpu()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


def save_for_transformers(
    sam: PromptableSam,
    folder: Path,
    state: dict[str, Tensor],
    kind: str,
    vision: dict[str, Any],
    image_size: int,
    layout: dict[str, Any],
) -> None:
    """Write the files of a folder that transformers' model of a SAM and its processor take.

    Args:
        sam: whose they are.
        folder: an existing one.
        state: tensors under transformers' names.
        kind: of the SAM there, such as "sam2" for `Sam2Model`.
        vision: the `vision_config` of its encoder.
        image_size: of the prompt encoder, in pixels.
        layout: how images become squares: what of the processor's settings differs from SAM to SAM.
    """
    state = state | {SHARED_POSITIONS: state[transformers_name(POSITIONS)].clone()}
    with written_whole(folder / "model.safetensors") as temporary:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, temporary, {"format": "pt"})
    name = "".join(part.capitalize() for part in kind.split("_"))
    config = {
        "architectures": [f"{name}Model"],
        "model_type": kind,
        "vision_config": vision,
        "prompt_encoder_config": {"model_type": f"{kind}_prompt_encoder", "image_size": image_size},
        "mask_decoder_config": {"model_type": f"{kind}_mask_decoder"},
    }
    processor = {
        "image_processor_type": f"{name}ImageProcessor",
        "processor_class": f"{name}Processor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": sam.image_transform.mean,
        "image_std": sam.image_transform.std,
        "resample": 2,
    }
    for file, content in (("config.json", config), ("preprocessor_config.json", processor | layout)):
        write_json(content, folder / file)
