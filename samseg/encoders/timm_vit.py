"""Plain ViTs of timm's (DINOv2, DINOv3, Perception Encoder, SigLIP, ...) as trunks.

timm builds the network and names its tensors; its blocks compute by our operators (`sequence.py`).
"""

import timm
import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from samseg.common.errors import ConfigError
from samseg.encoders.ops.layout import channels_first
from samseg.encoders.positions import resampled
from samseg.encoders.sequence import SequenceBlock, exchange
from samseg.encoders.trunk import Site, Trunk

TAPS = 4
STRIDES = (8, 16, 32)  # at which tokens may lie; patches of another side are brought to the next one
RUN = ("patch_embed", "pos_drop", "patch_drop", "norm_pre", "blocks", "norm", "rope")  # timm's parts that are needed


class TimmViT(Trunk):
    """A plain ViT of timm's, cut behind four of its blocks.

    Its maps are the outputs of the blocks that end each quarter of the depth, normalised as the last one's is, without
    class and register tokens: what DINO calls `get_intermediate_layers`. Where patches do not have 8, 16 or 32 pixels
    the image is resampled, for patches of 14 to 14/16 of its size: then tokens lie at stride 16 of the image.

    Args:
        name: of timm's, with or without the tag of weights.
        arguments: of its network, in place of timm's own, such as a smaller `depth`.

    Raises:
        ConfigError: the network is no plain ViT, or takes images of one size alone.
    """

    def __init__(self, name: str, **arguments):
        super().__init__()
        self.net = _network(name, arguments)
        self.gradient_checkpointing = False
        self.adapter = None
        self.unused_tensors = {}
        for part, module in list(self.net.named_children()):
            if part not in RUN:
                self.unused_tensors |= {f"net.{part}.{key}": tuple(t.shape) for key, t in module.state_dict().items()}
                setattr(self.net, part, nn.Identity())
        for block in self.net.blocks:
            exchange(block)
        self.patch = self.first_convolution().kernel_size[0]
        self.multiple = next((stride for stride in STRIDES if stride >= self.patch), self.patch)
        depth = len(self.net.blocks)
        self.tapped = sorted({(i + 1) * depth // TAPS - 1 for i in range(TAPS)} - {-1})
        self.channels = [self.net.embed_dim] * len(self.tapped)
        self.strides = [self.multiple] * len(self.tapped)
        self.top_layer = depth + 1

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of `multiple` -> four maps (B, width, H / multiple, W / multiple)."""
        size = x.shape[2] // self.multiple, x.shape[3] // self.multiple
        if self.patch != self.multiple:
            x = F.interpolate(x, size=[side * self.patch for side in size], mode="bilinear", align_corners=False)
        image, patches, prefix = x, self.net.patch_embed(x), self.net.num_prefix_tokens
        x = self.net.norm_pre(self._with_positions(patches))
        rope = None if getattr(self.net, "rope", None) is None else self.net.rope.get_embed(size)
        features = None if self.adapter is None else self.adapter(image, patches)
        maps = []
        for i, block in enumerate(self.net.blocks):
            addition = None if self.adapter is None else self.adapter.addition(i, features)
            if addition is not None:
                x = x + F.pad(addition.flatten(1, 2), [0, 0, prefix, 0])
            given = () if rope is None else (rope[i] if self.net.rope_mixed else rope,)
            if isinstance(block, SequenceBlock):
                given = (size, *given)
            x = self.run(block, x, *given)
            if i in self.tapped:
                maps.append(channels_first(self.net.norm(x)[:, prefix:].unflatten(1, size)))
        return maps

    def _with_positions(self, patches: Tensor) -> Tensor:
        """Embedded patches (B, h, w, C) as a sequence (B, prefix + h * w, C) behind class and register tokens."""
        net = self.net
        tokens = [token for token in (net.cls_token, net.reg_token) if token is not None]
        prefix = [token.expand(patches.shape[0], -1, -1) for token in tokens]
        if net.pos_embed is None:
            return torch.cat([*prefix, patches.flatten(1, 2)], dim=1)
        of_prefix = net.pos_embed[:, : 0 if net.no_embed_class else net.num_prefix_tokens]
        table = net.pos_embed[:, of_prefix.shape[1] :].unflatten(1, net.patch_embed.grid_size)
        x = (patches + resampled(table, *patches.shape[1:3]).to(patches.dtype)).flatten(1, 2)
        if not prefix:
            return x
        first = torch.cat(prefix, dim=1)
        return torch.cat([first + of_prefix if of_prefix.shape[1] else first, x], dim=1)

    def first_convolution(self) -> nn.Conv2d:
        return self.net.patch_embed.proj

    def layer_of(self, name: str) -> int:
        """As BEiT and timm count: patches, positions and prefix at the bottom, the blocks, the norm on top."""
        if name.startswith("net.blocks."):
            return int(name.split(".")[2]) + 1
        return self.top_layer if name.startswith("net.norm.") else 0

    def resample_positions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        table, own = tensors.get("net.pos_embed"), self.net.pos_embed
        if own is None or table is None or table.ndim != 3 or table.shape == own.shape:
            return tensors
        prefix = own.shape[1] - self.net.patch_embed.num_patches
        side = round((table.shape[1] - prefix) ** 0.5)
        if table.shape[2] != own.shape[2] or side**2 != table.shape[1] - prefix:
            return tensors
        grid = resampled(table[:, prefix:].unflatten(1, (side, side)), *self.net.patch_embed.grid_size).flatten(1, 2)
        return tensors | {"net.pos_embed": torch.cat([table[:, :prefix], grid.to(table.dtype)], dim=1)}

    def adapter_sites(self) -> list[Site]:
        width = self.net.embed_dim
        sites = [Site(self, "input", width, -1)]
        for i, block in enumerate(self.net.blocks):
            if not isinstance(block, SequenceBlock):
                return []
            modules = {"attn.qkv": block.attn.qkv, "attn": block.attn, "mlp": block.mlp}
            sites += [Site(module, kind, width, i) for kind, module in modules.items()]
        return sites


def _network(name: str, arguments: dict) -> nn.Module:
    """timm's network with random weights, for images of any size; ConfigError where it cannot be cut."""
    architecture, any_size = name.partition(".")[0], True
    try:
        net = timm.create_model(architecture, **{"dynamic_img_size": True} | arguments)
    except TypeError:
        net, any_size = timm.create_model(architecture, **arguments), False
    kind = type(net)
    if not hasattr(net, "forward_intermediates"):
        reason = "timm does not give what lies between its blocks (no forward_intermediates)"
    elif hasattr(net, "cls_attn_blocks") or hasattr(net, "blocks_token_only"):
        reason = "its last blocks see the class token alone (class-attention)"
    elif not any_size:
        reason = "it takes images of its own size alone (no dynamic image size)"
    elif not isinstance(net, VisionTransformer | Eva):
        reason = f"it is no plain ViT but timm's {kind.__name__}"
    elif kind._pos_embed not in (VisionTransformer._pos_embed, Eva._pos_embed):
        reason = f"timm's {kind.__name__} embeds its tokens in a way of its own"
    else:
        return net
    raise ConfigError(f"{name} cannot be cut into feature maps: {reason}; take a plain ViT, or try SMP's tu-{name}")
