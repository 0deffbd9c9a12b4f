"""segment-anything's names of a whole SAM's tensors, and transformers'."""

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
    (re.compile(r"(mlps\.\d+|iou_prediction_head)\.layers\.0\."), r"\1.proj_in."),
    (re.compile(r"(mlps\.\d+|iou_prediction_head)\.layers\.1\."), r"\1.layers.0."),
    (re.compile(r"(mlps\.\d+|iou_prediction_head)\.layers\.2\."), r"\1.proj_out."),
)
POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
SHARED_POSITIONS = "shared_image_embedding.positional_embedding"  # transformers ties it to the prompt encoder's


def transformers_name(name: str) -> str:
    """transformers' name of a tensor that segment-anything calls `name`."""
    for pattern, replacement in RENAMES:
        name = pattern.sub(replacement, name)
    return name
