"""Other libraries' implementations of SAM's encoder, given our weights."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from torch import nn

from samseg.encoders.vit import SamViT
from samseg.errors import InputError


def _segment_anything(arguments: dict, size: int, ours: SamViT) -> nn.Module:
    _need("segment_anything", "segment-anything")
    from segment_anything.modeling.image_encoder import ImageEncoderViT

    if size != 1024:
        raise InputError("segment-anything takes 1024 pixels only")
    network = ImageEncoderViT(
        depth=arguments["depth"],
        embed_dim=arguments["width"],
        num_heads=arguments["heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=arguments["global_blocks"],
    )
    network.load_state_dict(ours.state_dict())
    return network


def _timm(arguments: dict, size: int, ours: SamViT) -> nn.Module:
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    network = VisionTransformerSAM(
        img_size=1024,
        embed_dim=arguments["width"],
        depth=arguments["depth"],
        num_heads=arguments["heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        global_attn_indexes=arguments["global_blocks"],
        neck_chans=256,
        num_classes=0,
    )
    network.forward = network.forward_features  # without pooling
    network.load_state_dict({name.replace("mlp.lin", "mlp.fc"): value for name, value in ours.state_dict().items()})
    return network


def _transformers(arguments: dict, size: int, ours: SamViT) -> nn.Module:
    _need("transformers", "transformers")
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    if size != 1024:
        raise InputError("transformers takes 1024 pixels only")
    config = SamVisionConfig(
        hidden_size=arguments["width"],
        num_hidden_layers=arguments["depth"],
        num_attention_heads=arguments["heads"],
        global_attn_indexes=list(arguments["global_blocks"]),
        mlp_dim=4 * arguments["width"],
    )
    network = SamVisionEncoder(config)
    names = {"patch_embed.proj.": "patch_embed.projection.", "blocks.": "layers.", ".norm1.": ".layer_norm1."}
    names |= {".norm2.": ".layer_norm2.", "neck.0.": "neck.conv1.", "neck.1.": "neck.layer_norm1."}
    names |= {"neck.2.": "neck.conv2.", "neck.3.": "neck.layer_norm2."}
    state = {}
    for name, value in ours.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = value
    network.load_state_dict(state)
    return network


def _need(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise ImportError(f"{package} is not installed; pip install 'samseg[test]'")


PEERS: dict[str, Callable[[dict, int, SamViT], nn.Module]] = {
    "segment-anything": _segment_anything,
    "timm": _timm,
    "transformers": _transformers,
}
