"""SAM's image encoder, ours beside other libraries' implementations: same weights, same machine, turn by turn."""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import product
from json import dumps

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import PeakMemory
from samseg.encoders.registry import VARIANTS
from samseg.encoders.vit import PATCH, SamViT
from samseg.errors import InputError

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}


def encoder_table() -> str:
    """Parameters and cost of every registered trunk at 1024 pixels, a line each."""
    lines = []
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            parameters = sum(p.numel() for p in variant.build().parameters())
        lines.append(f"{name:<10} {parameters / 1e6:6.1f} M parameters  {gflop(name, 1024):7.0f} GFLOP at 1024")
    return "\n".join(lines)


def gflop(variant: str, size: int) -> float:
    """What one image of size x size pixels needs, in GFLOP, two for a multiply-add.

    For the ViTs the matrix products of the formula, without those of padding tokens, whose q, k and v are the biases;
    for `sam-vit_t` counted on the network itself.
    """
    row = VARIANTS[variant]
    if row.trunk is not SamViT:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            row.build().eval()(torch.empty(1, 3, size, size))
        return counter.get_total_flops() / 1e9
    width, depth, whole = row.arguments["width"], row.arguments["depth"], len(row.arguments["global_blocks"])
    side, window = size // PATCH, 14
    windows = math.ceil(side / window) ** 2
    linear = 12 * width**2 * side**2 * depth  # qkv 3, proj 1, MLP 8
    attention = whole * side**4 + (depth - whole) * windows * window**4  # logits, and as much for the values
    positions = whole * side**3 + (depth - whole) * windows * window**3  # each for rows and columns
    ends = side**2 * (3 * PATCH**2 * width + 256 * width + 9 * 256 * 256)  # patch embedding and neck
    return 2 * (linear + 2 * width * (attention + positions) + ends) / 1e9


def compare(variant: str, batch: int, size: int, kind: str, train: bool, peers: list[str], repeats: int) -> dict:
    """Time ours and the peers in turn on images (batch, 3, size, size), after checking that all outputs agree.

    ``kind`` is "float32" or "bfloat16". Returns what was asked, the GEMM rate of the machine and, for each
    implementation, the median seconds, the ratio to ours, the rate over the GEMM's, the peak of memory above what the
    weights take, and the relative error against float32.

    Raises InputError when an output disagrees: a time for other numbers is no comparison.
    """
    arguments = VARIANTS[variant].arguments
    if VARIANTS[variant].trunk is not SamViT:
        raise InputError(f"{variant} has no peers to compare with; take sam-vit_b, sam-vit_l or sam-vit_h")
    device, dtype = "cuda" if torch.cuda.is_available() else "cpu", getattr(torch, kind)
    torch.manual_seed(0)
    ours = SamViT(**arguments).eval()
    _randomise(ours)
    image = torch.randn(batch, 3, size, size)
    with torch.inference_mode():
        exact = ours.to(device)(image.to(device))[-1].float()
    builders = {"samseg": lambda: ours, **{peer: partial(PEERS[peer], arguments, size, ours) for peer in peers}}
    networks: dict[str, nn.Module] = {}
    missing = {}
    for name, build in builders.items():
        try:
            networks[name] = build().eval().to(device, dtype)
        except (ImportError, InputError) as error:
            missing[name] = str(error)
    image = image.to(device, dtype)
    results: dict[str, dict] = {name: {"seconds": []} for name in networks}
    for name, network in networks.items():
        with torch.inference_mode():
            error = ((_embedding(network(image)).float() - exact).norm() / exact.norm()).item()
        if error > TOLERANCE[dtype]:
            raise InputError(f"{name} disagrees with the float32 reference by {error:.1e}; nothing was timed")
        results[name]["error"] = error
        with PeakMemory(device) as memory:
            _run(network, image, train)
        results[name]["peak_gib"] = memory.gib
    for _ in range(repeats):
        for name, network in networks.items():
            results[name]["seconds"].append(_timed(lambda network=network: _run(network, image, train)))
    peak = gemm_gflops(dtype, device)
    flops = gflop(variant, size) * batch * (3 if train else 1)  # backward: twice the forward
    base = statistics.median(results["samseg"]["seconds"])
    for result in results.values():
        result["seconds"] = statistics.median(result["seconds"])
        result["ratio"] = result["seconds"] / base
        result["of_gemm"] = flops / result["seconds"] / peak
    asked = {"variant": variant, "shape": [batch, 3, size, size], "dtype": kind, "train": train, "device": device}
    return asked | {"gemm_gflops": peak, "implementations": results, "missing": missing}


def print_comparisons(
    variant: str,
    size: list[int],
    batch: list[int],
    dtype: list[str],
    train: bool,
    peers: list[str],
    repeats: int,
    json: bool,
) -> None:
    """`compare` at each size, batch and dtype, printed as it is found."""
    for kind, side, images in product(dtype, size, batch):
        found = compare(variant, images, side, kind, train, peers, repeats)
        print(dumps(found) if json else as_table(found), flush=True)


def as_table(found: dict) -> str:
    """What `compare` found, a line for each implementation."""
    lines = [
        f"{found['variant']}, {' x '.join(map(str, found['shape']))}, {found['dtype']}, "
        f"{'training' if found['train'] else 'inference'} on {found['device']} with {torch.get_num_threads()} threads; "
        f"matrix products at {found['gemm_gflops']:.0f} GFLOP/s"
    ]
    for name, row in found["implementations"].items():
        memory = f"  {row['peak_gib']:5.2f} GiB" if row["peak_gib"] is not None else ""
        lines.append(
            f"{name:<17} {row['seconds']:7.2f} s  x {row['ratio']:4.2f}  {row['of_gemm']:4.0%} of that rate{memory}  "
            f"error {row['error']:.1e}"
        )
    return "\n".join(lines + [f"{name:<17} left out: {reason}" for name, reason in found["missing"].items()])


def gemm_gflops(dtype: torch.dtype, device: str) -> float:
    """The best rate of a matrix product of the shape that fills SAM's MLPs, in GFLOP/s."""
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((4096, 3072), (3072, 768)))
    best = min(_timed(lambda: torch.mm(a, b)) for _ in range(20))
    return 2 * 4096 * 3072 * 768 / best / 1e9


def _run(network: nn.Module, image: Tensor, train: bool) -> None:
    if not train:
        with torch.inference_mode():
            network(image)
        return
    _embedding(network(image)).float().square().mean().backward()
    network.zero_grad()


def _timed(call: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _embedding(output) -> Tensor:
    """The neck's output (B, 256, h, w) of whichever implementation."""
    if isinstance(output, list):
        return output[-1]
    return output if isinstance(output, Tensor) else output.last_hidden_state


def _randomise(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if "rel_pos" in name or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)


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
