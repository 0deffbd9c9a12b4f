"""SAM 2's memory of videos: the names and shapes of tensors that images do not need and sam2 asks a file for."""

import torch
from torch import Tensor

WIDTH, MEMORY, FRAMES = 256, 64, 7


def video_tensors() -> dict[str, Tensor]:
    """Zeros in their place, by sam2's names."""
    shapes: dict[str, tuple[int, ...]] = {
        "maskmem_tpos_enc": (FRAMES, 1, 1, MEMORY),
        "no_mem_pos_enc": (1, 1, WIDTH),
        "no_obj_ptr": (1, WIDTH),
        "no_obj_embed_spatial": (1, MEMORY),
    }

    def layer(name: str, *weight: int) -> None:
        shapes.update({f"{name}.weight": weight, f"{name}.bias": weight[:1]})

    layer("mask_downsample", 1, 1, 4, 4)
    layer("obj_ptr_tpos_proj", MEMORY, WIDTH)
    for i in range(3):
        layer(f"obj_ptr_proj.layers.{i}", WIDTH, WIDTH)
    for i in range(4):
        block = f"memory_attention.layers.{i}"
        for name in ("self_attn", "cross_attn_image"):
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                memory = name == "cross_attn_image" and part in ("k_proj", "v_proj")
                layer(f"{block}.{name}.{part}", WIDTH, MEMORY if memory else WIDTH)
        layer(f"{block}.linear1", 8 * WIDTH, WIDTH)
        layer(f"{block}.linear2", WIDTH, 8 * WIDTH)
        for number in (1, 2, 3):
            layer(f"{block}.norm{number}", WIDTH)
    layer("memory_attention.norm", WIDTH)
    masks = "memory_encoder.mask_downsampler.encoder"
    for i in range(4):
        layer(f"{masks}.{3 * i}", 4 ** (i + 1), 4**i, 3, 3)
        layer(f"{masks}.{3 * i + 1}", 4 ** (i + 1))
    layer(f"{masks}.12", WIDTH, WIDTH, 1, 1)
    layer("memory_encoder.pix_feat_proj", WIDTH, WIDTH, 1, 1)
    layer("memory_encoder.out_proj", MEMORY, WIDTH, 1, 1)
    for i in range(2):
        block = f"memory_encoder.fuser.layers.{i}"
        shapes[f"{block}.gamma"] = (WIDTH,)
        layer(f"{block}.dwconv", WIDTH, 1, 7, 7)
        layer(f"{block}.norm", WIDTH)
        layer(f"{block}.pwconv1", 4 * WIDTH, WIDTH)
        layer(f"{block}.pwconv2", WIDTH, 4 * WIDTH)
    return {name: torch.zeros(shape) for name, shape in shapes.items()}
