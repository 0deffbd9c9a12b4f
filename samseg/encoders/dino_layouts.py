"""Under which names DINOv2's and DINOv3's ViTs are published; the trunk has timm's.

timm            blocks.0.attn.qkv.weight
DINO            blocks.0.attn.qkv.weight                beside mask_token, storage_tokens ...
transformers    layer.0.attention.q_proj.weight, ...    queries, keys and values apart
"""

from samseg.encoders.layouts import Layout, Tensors, apart


def split_biases(tensors: Tensors) -> Tensors:
    """Split the bias that DINOv3 files for queries, keys and values; the keys' part is masked and goes."""
    out = dict(tensors)
    for name in [name for name in out if name.endswith(".qkv.bias")]:
        q, _, v = out.pop(name).chunk(3)
        out |= {name.replace("qkv.bias", "q_bias"): q, name.replace("qkv.bias", "v_bias"): v}
    return out


def add_zero_biases(tensors: Tensors) -> Tensors:
    """Add biases of zero, which timm leaves out of its files of DINOv3."""
    qkv = {name: tensor for name, tensor in tensors.items() if name.endswith(".qkv.weight")}
    zeros = {name.replace("qkv.weight", f"{p}_bias"): t.new_zeros(t.shape[1]) for name, t in qkv.items() for p in "qv"}
    return zeros | tensors


def drop_class_position(tensors: Tensors) -> Tensors:
    """Add the class token's position, which DINOv2 files beside it and which is always the same, to the token."""
    if "net.pos_embed" not in tensors or "net.cls_token" not in tensors:
        return tensors
    positions = tensors["net.pos_embed"]
    token = tensors["net.cls_token"] + positions[:, :1]
    return tensors | {"net.cls_token": token, "net.pos_embed": positions[:, 1:]}


# Of training, or reckoned anew: they become no name.
UNUSED = (r"^(.*\.)?(mask_token|rope_embed\..*|.*\.bias_mask|local_cls_norm\..*)$", "")
NET = (r"^(?=.)", "net.")
TIMM = (Layout("timm", (UNUSED, NET)),)
DINOV3_IN_TRANSFORMERS = (
    UNUSED,
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.", ""),
    (r"^(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.([qv])_proj\.bias$", r".attn.\1_bias"),
    *apart("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    NET,
)
DINOV3 = (
    *TIMM,
    Layout("timm", (NET,), convert=add_zero_biases),
    Layout(
        "DINOv3",
        (
            UNUSED,
            (r"^storage_tokens$", "reg_token"),
            (r"\.ls([12])\.gamma$", r".gamma_\1"),
            (r"\.mlp\.w1\.", ".mlp.fc1_g."),
            (r"\.mlp\.w2\.", ".mlp.fc1_x."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
            NET,
        ),
        convert=split_biases,
    ),
    Layout("transformers", (*DINOV3_IN_TRANSFORMERS, (r"\.mlp\.up_proj\.", ".mlp.fc1."))),
    Layout("transformers", (*DINOV3_IN_TRANSFORMERS, (r"\.mlp\.up_proj\.", ".mlp.fc1_x."))),  # of gated MLPs
)
DINOV2 = (
    *TIMM,
    Layout(
        "DINOv2",
        (
            UNUSED,
            (r"^register_tokens$", "reg_token"),
            (r"\.mlp\.w12\.", ".mlp.fc1."),
            (r"\.mlp\.w3\.", ".mlp.fc2."),
            NET,
        ),
        convert=drop_class_position,
    ),
    Layout(
        "transformers",
        (
            UNUSED,
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^embeddings\.register_tokens$", "reg_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.", ""),
            (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            *apart("attention.attention.query", "attention.attention.key", "attention.attention.value"),
            (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
            (r"\.mlp\.weights_in\.", ".mlp.fc1."),
            (r"\.mlp\.weights_out\.", ".mlp.fc2."),
            (r"^layernorm\.", "norm."),
            NET,
        ),
        convert=drop_class_position,
    ),
)
