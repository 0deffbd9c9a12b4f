"""Published names of a whole SAM's tensors: sam2's, sam3's and transformers'; ours are segment-anything's."""

import re

RENAMES = (  # segment-anything's names -> transformers'
    (re.compile(r"^image_encoder\.patch_embed\.proj\."), "image_encoder.patch_embed.projection."),
    (re.compile(r"^image_encoder\.blocks\.(\d+)\.norm"), r"image_encoder.layers.\1.layer_norm"),
    (re.compile(r"^image_encoder\.blocks\."), "image_encoder.layers."),
    (re.compile(r"^image_encoder\.neck\.0\."), "image_encoder.neck.conv1."),
    (re.compile(r"^image_encoder\.neck\.1\."), "image_encoder.neck.layer_norm1."),
    (re.compile(r"^image_encoder\.neck\.2\."), "image_encoder.neck.conv2."),
    (re.compile(r"^image_encoder\.neck\.3\."), "image_encoder.neck.layer_norm2."),
    (re.compile(r"^image_encoder\."), "vision_encoder."),
    (re.compile(r"^prompt_encoder\.pe_layer\..*"), "prompt_encoder.shared_embedding.positional_embedding"),
    (re.compile(r"^prompt_encoder\.point_embeddings\."), "prompt_encoder.point_embed."),
    (re.compile(r"^prompt_encoder\.mask_downscaling\.0\."), "prompt_encoder.mask_embed.conv1."),
    (re.compile(r"^prompt_encoder\.mask_downscaling\.1\."), "prompt_encoder.mask_embed.layer_norm1."),
    (re.compile(r"^prompt_encoder\.mask_downscaling\.3\."), "prompt_encoder.mask_embed.conv2."),
    (re.compile(r"^prompt_encoder\.mask_downscaling\.4\."), "prompt_encoder.mask_embed.layer_norm2."),
    (re.compile(r"^prompt_encoder\.mask_downscaling\.6\."), "prompt_encoder.mask_embed.conv3."),
    (re.compile(r"^(mask_decoder\.transformer\.layers\.\d+)\.norm"), r"\1.layer_norm"),
    (re.compile(r"^mask_decoder\.transformer\.norm_final"), "mask_decoder.transformer.layer_norm_final"),
    (re.compile(r"^mask_decoder\.output_upscaling\.0\."), "mask_decoder.upscale_conv1."),
    (re.compile(r"^mask_decoder\.output_upscaling\.1\."), "mask_decoder.upscale_layer_norm."),
    (re.compile(r"^mask_decoder\.output_upscaling\.3\."), "mask_decoder.upscale_conv2."),
    (re.compile(r"(mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers\.0\."), r"\1.proj_in."),
    (re.compile(r"(mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers\.1\."), r"\1.layers.0."),
    (re.compile(r"(mlps\.\d+|iou_prediction_head|pred_obj_score_head)\.layers\.2\."), r"\1.proj_out."),
)
POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
SHARED_POSITIONS = "shared_image_embedding.positional_embedding"  # transformers ties it to the prompt encoder's


PARTS = (  # ours -> sam2's and sam3's
    (re.compile(r"^prompt_encoder\.no_mem_embed"), "no_mem_embed"),
    (re.compile(r"^(prompt_encoder|mask_decoder)\."), r"sam_\1."),
)
SAM2 = (  # ours -> sam2's
    (re.compile(r"^(image_encoder\..*\.mlp)\.fc1\."), r"\1.layers.0."),
    (re.compile(r"^(image_encoder\..*\.mlp)\.fc2\."), r"\1.layers.1."),
    (re.compile(r"^(image_encoder\.neck\.convs\.\d)\."), r"\1.conv."),
    (re.compile(r"\.mlp\.lin1\."), ".mlp.layers.0."),
    (re.compile(r"\.mlp\.lin2\."), ".mlp.layers.1."),
    *PARTS,
)
SAM2_TRANSFORMERS = (  # ours -> transformers'
    (re.compile(r"^image_encoder\.trunk\.patch_embed\.proj\."), "image_encoder.trunk.patch_embed.projection."),
    (re.compile(r"^(image_encoder\.trunk\..*)\.norm([12])\."), r"\1.layer_norm\2."),
    (re.compile(r"^image_encoder\.trunk\."), "image_encoder.backbone."),
    (re.compile(r"\.mlp\.(fc|lin)1\."), ".mlp.proj_in."),
    (re.compile(r"\.mlp\.(fc|lin)2\."), ".mlp.proj_out."),
    (re.compile(r"^(mask_decoder\..*)\.out_proj\."), r"\1.o_proj."),
    (re.compile(r"^prompt_encoder\.no_mem_embed"), "no_memory_embedding"),
    *RENAMES,
)
SAM3_VISION, SAM3_VIT = "detector.backbone.vision_backbone", "vision_encoder.backbone"
SAM3 = (  # ours -> sam3's; what is behind "tracker." in sam3.pt is without it
    (re.compile(r"^(image_encoder\..*\.mlp)\.lin([12])\."), r"\1.fc\2."),
    (re.compile(r"^(image_encoder\.neck\.levels\.0)\.up([12])\."), lambda up: f"{up[1]}.dconv_2x2_{int(up[2]) - 1}."),
    (re.compile(r"^(image_encoder\.neck\.levels\.1)\.up1\."), r"\1.dconv_2x2."),
    (re.compile(r"^(image_encoder\.neck\..*)\.proj1\."), r"\1.conv_1x1."),
    (re.compile(r"^(image_encoder\.neck\..*)\.proj2\."), r"\1.conv_3x3."),
    (re.compile(r"^image_encoder\.neck\.levels\."), f"{SAM3_VISION}.sam2_convs."),
    (re.compile(r"^image_encoder\."), f"{SAM3_VISION}.trunk."),
    *PARTS,
)
SAM3_TRANSFORMERS = (  # ours -> transformers'
    (re.compile(r"^image_encoder\.patch_embed\.proj\."), f"{SAM3_VIT}.embeddings.patch_embeddings.projection."),
    (re.compile(r"^image_encoder\.pos_embed"), f"{SAM3_VIT}.embeddings.position_embeddings"),
    (re.compile(r"^image_encoder\.ln_pre\."), f"{SAM3_VIT}.layer_norm."),
    (re.compile(r"^(image_encoder\..*)\.norm([12])\."), r"\1.layer_norm\2."),
    (re.compile(r"^(image_encoder\..*)\.attn\.proj\."), r"\1.attention.o_proj."),
    (re.compile(r"^(image_encoder\..*)\.attn\."), r"\1.attention."),
    (re.compile(r"^image_encoder\.blocks\."), f"{SAM3_VIT}.layers."),
    (re.compile(r"^(image_encoder\.neck\..*)\.up1\."), r"\1.scale_layers.0."),
    (re.compile(r"^(image_encoder\.neck\..*)\.up2\."), r"\1.scale_layers.2."),
    (re.compile(r"^image_encoder\.neck\.levels\."), "vision_encoder.neck.fpn_layers."),
    *SAM2_TRANSFORMERS,
    (re.compile(r"^(vision_encoder\..*\.mlp)\.proj_in\."), r"\1.fc1."),
    (re.compile(r"^(vision_encoder\..*\.mlp)\.proj_out\."), r"\1.fc2."),
)


def transformers_name(name: str) -> str:
    """transformers' name of a tensor that segment-anything calls `name`."""
    return _renamed(name, RENAMES)


def sam2_name(name: str) -> str:
    """sam2's name of a tensor of `Sam2`."""
    return _renamed(name, SAM2)


def sam2_transformers_name(name: str) -> str:
    """transformers' name of a tensor of `Sam2`; the labels of points, which are one tensor there, one after another."""
    return _renamed(name, SAM2_TRANSFORMERS)


def sam3_name(name: str) -> str:
    """sam3's name of a tensor of `Sam3`."""
    return _renamed(name, SAM3)


def sam3_transformers_name(name: str) -> str:
    """transformers' name of a tensor of `Sam3`, whose queries, keys and values are apart, and points' labels one."""
    return _renamed(name, SAM3_TRANSFORMERS)


def _renamed(name: str, patterns: tuple[tuple[re.Pattern, str], ...]) -> str:
    for pattern, replacement in patterns:
        name = pattern.sub(replacement, name)
    return name
