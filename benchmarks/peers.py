"""Other libraries' implementations of SAM's encoder, given our weights, and other runtimes given our encoder."""

import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from samseg.common.errors import InputError
from samseg.encoders.adapters.lora import LoRA
from samseg.encoders.linear import Linear
from samseg.encoders.tinyvit import TinyViT
from samseg.encoders.vit import SamViT


def with_lora(network: nn.Module) -> nn.Module:
    """The same network frozen, with LoRA of rank 4 beside the fused qkv of each block."""
    network.requires_grad_(False)
    for name, layer in list(network.named_modules()):
        if name.endswith("attn.qkv"):
            lora = LoRA(layer.in_features, layer.out_features // 3).to(layer.weight.device, layer.weight.dtype)
            if isinstance(layer, Linear):
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


def _mobile_sam(arguments: dict, size: int, ours: TinyViT, dtype: torch.dtype) -> nn.Module:
    _need("mobile_sam", "mobilesam-mirror")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its timm
        from mobile_sam import sam_model_registry

    if size != 1024:
        raise InputError("MobileSAM takes 1024 pixels only")
    network = sam_model_registry["vit_t"]().image_encoder
    network.load_state_dict(ours.state_dict(), strict=False)  # a classifier that it never calls is missing
    return network


def _compiled(arguments: dict, size: int, ours: SamViT, dtype: torch.dtype) -> nn.Module:
    return torch.compile(_segment_anything(arguments, size, ours, dtype))


def _onnx_runtime(arguments: dict, size: int, ours: nn.Module, dtype: torch.dtype) -> nn.Module:
    _need("onnxruntime", "onnxruntime")
    import onnxruntime

    if dtype != torch.float32:
        raise InputError("ONNX Runtime computes in float32 on a CPU")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(_exported(ours, size, folder), options, ["CPUExecutionProvider"])
    return _Program(lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0]))


def _openvino(arguments: dict, size: int, ours: nn.Module, dtype: torch.dtype) -> nn.Module:
    _need("openvino", "openvino")
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
    _need("onnxscript", "onnxscript")
    file = Path(folder) / "encoder.onnx"

    class Embedding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ours(x)[-1]

    image = torch.zeros(1, 3, size, size)
    torch.onnx.export(Embedding().eval(), (image,), file, input_names=["image"], dynamo=True, verbose=False)
    return str(file)


def _need(module: str, package: str) -> None:
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
RUNTIMES: dict[str, Peer] = {"onnxruntime": _onnx_runtime, "openvino": _openvino}  # given ours; for inference alone
PEERS = [*OF_VIT, *OF_TINY_VIT, *RUNTIMES]


def peers_of(trunk: type[nn.Module]) -> dict[str, Peer]:
    return (OF_VIT if trunk is SamViT else OF_TINY_VIT) | RUNTIMES
