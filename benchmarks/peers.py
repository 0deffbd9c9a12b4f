"""Other libraries' implementations of SAM's encoder, given our weights, and other runtimes given our encoder."""

import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models.hieradet_sam2 import HieraDet
from torch import Tensor, nn

from samseg.common.errors import InputError
from samseg.encoders.adapters.lora import LoRA
from samseg.encoders.hiera import Sam2Hiera
from samseg.encoders.sam3 import Sam3ViT
from samseg.encoders.timm_vit import TimmViT
from samseg.encoders.tinyvit import TinyViT
from samseg.encoders.trunk import Trunk
from samseg.encoders.vit import SamViT


def with_lora(network: nn.Module) -> nn.Module:
    """The same network frozen, with LoRA of rank 4 beside the fused qkv of each block."""
    network.requires_grad_(False)
    for name, layer in list(network.named_modules()):
        if name.endswith("attn.qkv"):
            lora = LoRA(layer.in_features, layer.out_features // 3).to(layer.weight.device, layer.weight.dtype)
            if hasattr(layer, "adapter"):
                layer.adapter = lora
            else:
                network.get_submodule(name.removesuffix(".qkv")).qkv = _Sum(layer, lora)
    return network


class _Program(nn.Module):
    """What another runtime made of a network: it has no parameters and cannot be trained."""

    def __init__(self, program: Callable[[Tensor], Tensor]):
        super().__init__()
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        return self.program(x)


class _Sum(nn.Module):
    def __init__(self, *parts: nn.Module):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return sum(part(x) for part in self.parts)


def _segment_anything(arguments: dict, size: int, ours: SamViT, dtype: torch.dtype) -> nn.Module:
    need("segment_anything", "segment-anything")
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


def _timm(arguments: dict, size: int, ours: SamViT, dtype: torch.dtype) -> nn.Module:
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


def _transformers(arguments: dict, size: int, ours: SamViT, dtype: torch.dtype) -> nn.Module:
    need("transformers", "transformers")
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
    network.load_state_dict(_renamed(ours, names))
    return network


def _mobile_sam(arguments: dict, size: int, ours: TinyViT, dtype: torch.dtype) -> nn.Module:
    need("mobile_sam", "mobilesam-mirror")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its timm
        from mobile_sam import sam_model_registry

    if size != 1024:
        raise InputError("MobileSAM takes 1024 pixels only")
    network = sam_model_registry["vit_t"]().image_encoder
    network.load_state_dict(ours.state_dict(), strict=False)  # a classifier that it never calls is missing
    return network


class _Wrapped(nn.Module):
    """A network, and another way to call it."""

    def __init__(self, network: nn.Module, call: Callable[[Tensor], Tensor]):
        super().__init__()
        self.network, self.call = network, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def _renamed(ours: nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
    """Our tensors, each old part of a name replaced by the new one."""
    state = {}
    for name, value in ours.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        state[name] = value
    return state


def _apart(state: dict[str, Tensor], parts: list[str]) -> dict[str, Tensor]:
    """Tensors with the queries', keys' and values' rows of each layer "attn.qkv" under names of their own."""
    out = {}
    for name, value in state.items():
        rows = value.chunk(3) if "attn.qkv" in name else []
        out |= {name.replace("attn.qkv", part): each for part, each in zip(parts, rows)} or {name: value}
    return out


def _at_patches(ours: TimmViT, x: Tensor) -> Tensor:
    """The image at the size at which our trunk embeds its patches."""
    if ours.patch == ours.multiple:
        return x
    size = [side * ours.patch // ours.multiple for side in x.shape[2:]]
    return nn.functional.interpolate(x, size=size, mode="bilinear")


def _map(tokens: Tensor) -> Tensor:
    """Those of a square image (B, N, C) -> (B, C, h, w)."""
    side = round(tokens.shape[1] ** 0.5)
    return tokens.unflatten(1, (side, side)).permute(0, 3, 1, 2)


def sam2_encoder(arguments: dict) -> nn.Module:
    """facebookresearch/sam2's `ImageEncoder` with random weights, of a row's arguments."""
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    trunk = Hiera(
        embed_dim=arguments["width"],
        num_heads=arguments["heads"],
        stages=arguments["stages"],
        global_att_blocks=arguments["global_blocks"],
        window_spec=arguments.get("windows", (8, 4, 14, 7)),
        window_pos_embed_bkg_spatial_size=(arguments.get("positions", 7),) * 2,
    )
    neck = FpnNeck(
        PositionEmbeddingSine(256), 256, trunk.channel_list, fpn_interp_model="nearest", fpn_top_down_levels=[2, 3]
    )
    return ImageEncoder(trunk, neck, scalp=1)


def sam2_vision_config(arguments: dict) -> Any:
    """transformers' `Sam2VisionConfig` of a row's arguments."""
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    widths = [arguments["width"] * 2**i for i in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=arguments["width"],
        num_attention_heads=arguments["heads"],
        blocks_per_stage=list(arguments["stages"]),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[arguments["heads"] * 2**i for i in range(4)],
        window_size_per_stage=list(arguments.get("windows", (8, 4, 14, 7))),
        global_attention_blocks=list(arguments["global_blocks"]),
        window_positional_embedding_background_size=[arguments.get("positions", 7)] * 2,
    )
    return Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])


def _sam2(arguments: dict, size: int, ours: Sam2Hiera, dtype: torch.dtype) -> nn.Module:
    need("sam2", "facebookresearch/sam2")
    network = sam2_encoder(arguments)
    names = {"mlp.fc1": "mlp.layers.0", "mlp.fc2": "mlp.layers.1"}
    names |= {f"neck.convs.{i}": f"neck.convs.{i}.conv" for i in range(4)}
    network.load_state_dict(_renamed(ours, names))
    return _Wrapped(network, lambda x: network(x)["vision_features"].to(dtype))


def _timm_hiera(arguments: dict, size: int, ours: Sam2Hiera, dtype: torch.dtype) -> nn.Module:
    """timm's network under our neck: it has none."""
    trunk = HieraDet(
        embed_dim=arguments["width"],
        num_heads=arguments["heads"],
        stages=arguments["stages"],
        global_att_blocks=arguments["global_blocks"],
        window_spec=arguments.get("windows", (8, 4, 14, 7)),
        global_pos_size=(arguments.get("positions", 7),) * 2,
        num_classes=0,
    )
    trunk.head = nn.Identity()
    trunk.load_state_dict(ours.trunk.state_dict())
    trunk.forward = lambda x: ours.neck(*trunk.forward_intermediates(x, intermediates_only=True)[2:])
    trunk.neck = ours.neck  # moved along with it
    return trunk


def _transformers_hiera(arguments: dict, size: int, ours: Sam2Hiera, dtype: torch.dtype) -> nn.Module:
    need("transformers", "transformers")
    from transformers import Sam2VisionModel

    network = Sam2VisionModel(sam2_vision_config(arguments))
    names = {"trunk.": "backbone.", "patch_embed.proj": "patch_embed.projection", ".norm": ".layer_norm"}
    names |= {"mlp.fc1": "mlp.proj_in", "mlp.fc2": "mlp.proj_out"}
    network.load_state_dict(_renamed(ours, names))
    return _Wrapped(network, lambda x: network(x).fpn_hidden_states[-1])


def _transformers_sam3(arguments: dict, size: int, ours: Sam3ViT, dtype: torch.dtype) -> nn.Module:
    need("transformers", "transformers")
    from transformers import Sam3VisionConfig, Sam3VisionModel, Sam3ViTConfig

    backbone = Sam3ViTConfig(
        hidden_size=arguments["width"],
        intermediate_size=arguments["hidden"],
        num_hidden_layers=arguments["depth"],
        num_attention_heads=arguments["heads"],
        global_attn_indexes=list(arguments["global_blocks"]),
        image_size=size,
        layer_norm_eps=1e-5,
    )
    network = Sam3VisionModel(Sam3VisionConfig(backbone_config=backbone, scale_factors=[4.0, 2.0, 1.0]))
    names = {"patch_embed.proj": "backbone.embeddings.patch_embeddings.projection", "ln_pre": "backbone.layer_norm"}
    names |= {"pos_embed": "backbone.embeddings.position_embeddings", "blocks.": "backbone.layers."}
    names |= {".norm": ".layer_norm", "attn.proj": "attention.o_proj", "mlp.lin": "mlp.fc", "levels": "fpn_layers"}
    names |= {"up1": "scale_layers.0", "up2": "scale_layers.2"}
    state = _apart(_renamed(ours, names), [f"attention.{part}_proj" for part in "qkv"])
    table = "backbone.embeddings.position_embeddings"
    network.load_state_dict(state | {table: state[table].flatten(1, 2)})
    return _Wrapped(network, lambda x: network(x).fpn_hidden_states[-1])


def _timm_vit(arguments: dict, size: int, ours: TimmViT, dtype: torch.dtype) -> nn.Module:
    """timm's own blocks; for patches of 14 pixels it is given the image that ours resamples."""
    given = {key: value for key, value in arguments.items() if key != "name"}
    network = timm.create_model(arguments["name"].partition(".")[0], dynamic_img_size=True, **given)
    state = {name.removeprefix("net."): value for name, value in ours.state_dict().items()}
    network.load_state_dict(state, strict=False)  # a classifier that is never called is missing
    given = dict(indices=4, norm=True, intermediates_only=True)
    return _Wrapped(network, lambda x: network.forward_intermediates(_at_patches(ours, x), **given)[-1])


def _transformers_dino(arguments: dict, size: int, ours: TimmViT, dtype: torch.dtype) -> nn.Module:
    """DINOv3 and DINOv2 with registers, whose MLPs have no gate."""
    need("transformers", "transformers")
    import transformers

    net, name = ours.net, arguments["name"]
    if "dino" not in name or not hasattr(net.blocks[0].mlp, "fc1"):
        raise InputError(f"it has no {name}")
    given = dict(hidden_size=net.embed_dim, num_hidden_layers=len(net.blocks), num_register_tokens=4)
    given |= dict(num_attention_heads=net.blocks[0].attn.num_heads, patch_size=ours.patch)
    hidden = net.blocks[0].mlp.fc1.out_features
    names = {"net.cls_token": "embeddings.cls_token", "net.reg_token": "embeddings.register_tokens"}
    names |= {"net.pos_embed": "embeddings.position_embeddings", "net.patch_embed.proj": "embeddings.patch_embeddings"}
    if "dinov3" in name:
        config = transformers.DINOv3ViTConfig(**given, intermediate_size=hidden, key_bias=False)
        kind, parts, blocks = transformers.DINOv3ViTModel, "attention.{}_proj", "layer."
        heads = ("q", "k", "v")
        names |= {".attn.proj": ".attention.o_proj", ".mlp.fc1": ".mlp.up_proj", ".mlp.fc2": ".mlp.down_proj"}
        names |= {f".attn.{part}_bias": f".attention.{part}_proj.bias" for part in "qv"}
        names |= {".gamma_1": ".layer_scale1.lambda1", ".gamma_2": ".layer_scale2.lambda1", "net.norm": "norm"}
    else:
        side = net.patch_embed.grid_size[0] * ours.patch
        config = transformers.Dinov2WithRegistersConfig(**given, image_size=side, mlp_ratio=hidden // net.embed_dim)
        kind, parts, blocks = transformers.Dinov2WithRegistersModel, "attention.attention.{}", "encoder.layer."
        heads = ("query", "key", "value")
        names |= {".attn.proj": ".attention.output.dense", ".ls1.gamma": ".layer_scale1.lambda1"}
        names |= {".ls2.gamma": ".layer_scale2.lambda1", "net.norm": "layernorm"}
        names["net.patch_embed.proj"] += ".projection"
    state = _apart(_renamed(ours, names | {"net.blocks.": blocks}), [parts.format(head) for head in heads])
    table = "embeddings.position_embeddings"
    if table in state:  # with one for the class token
        state[table] = nn.functional.pad(state[table], [0, 0, 1, 0])
    with TemporaryDirectory() as folder:  # under the names of the hub, which are not those in memory
        config.save_pretrained(folder)
        save_file({key: value.clone() for key, value in state.items()}, Path(folder) / "model.safetensors")
        network = kind.from_pretrained(folder)
    return _Wrapped(network, lambda x: _map(network(_at_patches(ours, x)).last_hidden_state[:, 5:]))


def _compiled(arguments: dict, size: int, ours: SamViT, dtype: torch.dtype) -> nn.Module:
    return torch.compile(_segment_anything(arguments, size, ours, dtype))


def _onnx_runtime(arguments: dict, size: int, ours: nn.Module, dtype: torch.dtype) -> nn.Module:
    need("onnxruntime", "onnxruntime")
    import onnxruntime

    if dtype != torch.float32:
        raise InputError("ONNX Runtime computes in float32 on a CPU")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(_exported(ours, size, folder), options, ["CPUExecutionProvider"])
    return _Program(lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0]))


def _openvino(arguments: dict, size: int, ours: nn.Module, dtype: torch.dtype) -> nn.Module:
    need("openvino", "openvino")
    import openvino

    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    with TemporaryDirectory() as folder:
        program = openvino.Core().compile_model(_exported(ours, size, folder), "CPU", hints)
    return _Program(lambda x: torch.from_numpy(program([x.float().numpy()])[0]).to(dtype))


def _exported(ours: nn.Module, size: int, folder: str) -> str:
    """Our encoder as an ONNX file that takes one image and gives the embedding."""
    need("onnxscript", "onnxscript")
    file = Path(folder) / "encoder.onnx"

    class Embedding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ours(x)[-1]

    image = torch.zeros(1, 3, size, size)
    torch.onnx.export(Embedding().eval(), (image,), file, input_names=["image"], dynamo=True, verbose=False)
    return str(file)


def need(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise ImportError(f"{package} is not installed; pip install 'samseg-smp[test]'")


Peer = Callable[[dict, int, nn.Module, torch.dtype], nn.Module]  # (arguments, pixels a side, ours, dtype)
OF_VIT: dict[str, Peer] = {
    "segment-anything": _segment_anything,
    "timm": _timm,
    "transformers": _transformers,
    "torch.compile": _compiled,  # of segment-anything's
}
OF_TINY_VIT: dict[str, Peer] = {"MobileSAM": _mobile_sam}
OF_HIERA: dict[str, Peer] = {"sam2": _sam2, "timm": _timm_hiera, "transformers": _transformers_hiera}
OF_SAM3: dict[str, Peer] = {"transformers": _transformers_sam3}
OF_TIMM_VIT: dict[str, Peer] = {"timm": _timm_vit, "transformers": _transformers_dino}
OF_TRUNK = {SamViT: OF_VIT, TinyViT: OF_TINY_VIT, Sam2Hiera: OF_HIERA, Sam3ViT: OF_SAM3, TimmViT: OF_TIMM_VIT}
RUNTIMES: dict[str, Peer] = {"onnxruntime": _onnx_runtime, "openvino": _openvino}  # given ours; for inference alone
PEERS = [*dict.fromkeys(name for there in OF_TRUNK.values() for name in there), *RUNTIMES]


def peers_of(trunk: type[Trunk]) -> dict[str, Peer]:
    return OF_TRUNK.get(trunk, {}) | RUNTIMES
