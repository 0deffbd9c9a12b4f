"""Put adapters into SAM's encoder and take them out.

A module that is given an adapter keeps its own tensors under their own names and gets a child called `adapter`. So a
state dict holds SAM's tensors under SAM's names, and those of adapters are the ones that `is_adapter_tensor` names.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from samseg.adapters.adapter import MLP_SCALE, Bottleneck
from samseg.adapters.conv_lora import ConvLoRA
from samseg.adapters.lora import LoRA
from samseg.encoders import VARIANTS
from samseg.encoders.attention import Attention
from samseg.encoders.linear import Linear
from samseg.encoders.vit import MLP, SamViT
from samseg.errors import ConfigError, nearest

METHODS: dict[str, type[nn.Module]] = {"lora": LoRA, "conv_lora": ConvLoRA, "adapter": Bottleneck}
PLACES = {LoRA: ["attn.qkv"], ConvLoRA: ["attn.qkv"], Bottleneck: ["attn", "mlp"]}  # in a block


class AdaptedLinear(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.adapter(x)


class AdaptedAttention(Attention):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x + self.adapter(x)


class AdaptedMLP(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + MLP_SCALE * self.adapter(x)


ADAPTED = {Linear: AdaptedLinear, Attention: AdaptedAttention, MLP: AdaptedMLP}
PLAIN = {adapted: plain for plain, adapted in ADAPTED.items()}


def add_adapter(model: nn.Module, name: str, *, blocks: list[int] | None = None, **arguments: Any) -> nn.Module:
    """Put an adapter into SAM's encoder, in place, and freeze the rest of what SAM learned.

    Nothing changes at first: each adapter adds zero until it is trained. Load SAM's weights before.

    Args:
        model: an SMP model with one of `adaptable_encoders`, or such an encoder itself.
        name: "lora", "conv_lora" or "adapter".
        blocks: indices of the transformer blocks that get one; None: all.
        arguments: of the method: `LoRA`'s rank and alpha, `ConvLoRA`'s rank, alpha and experts, `Bottleneck`'s ratio.

    Returns:
        `model`.

    Raises:
        ConfigError: the encoder has no place for adapters or has one already, or an argument is unknown or unfit.
    """
    method = _method(name, arguments)
    trunk = _trunk(model)
    if any(_adapted(model)):
        raise ConfigError(
            f"the encoder has an adapter already ({adapter_name(model)}); take it out first: samseg.remove_adapter"
        )
    depth = len(trunk.blocks)
    blocks = list(range(depth)) if blocks is None else list(blocks)
    if not blocks or any(block not in range(depth) for block in blocks):
        raise ConfigError(f"an adapter's blocks must be some of 0 to {depth - 1}, got {blocks}")
    trunk.requires_grad_(False)
    for block in sorted(set(blocks)):
        for place in PLACES[method]:
            module = trunk.blocks[block].get_submodule(place)
            like = next(module.parameters())
            adapter = method(trunk.tap_channels[0], **arguments)
            module.__class__ = ADAPTED[type(module)]  # its tensors stay where they are and keep their names
            module.adapter = adapter.to(like.device, like.dtype)
    return _in_its_mode(model)


def merge_adapter(model: nn.Module) -> nn.Module:
    """Fold a LoRA adapter into SAM's weights, in place: a plain network with the same output, for inference and export.

    The encoder keeps the weights that were changed as they were before, for `remove_adapter`.

    Returns:
        `model`.

    Raises:
        ConfigError: there is no adapter, or it is not LoRA's; the others depend on the image and are no matrices.
    """
    if adapter_name(model) != "lora":
        found = adapter_name(model) or "none"
        raise ConfigError(f"only a lora adapter can be merged into the weights; the model's adapter is {found}")
    for module in _adapted(model):
        before = module.weight.detach()
        with torch.no_grad():
            merged = before + module.adapter.delta().to(before.dtype)
        _take_out(module)
        module.weight = nn.Parameter(merged, requires_grad=False)
        module.unmerged_weight = getattr(module, "unmerged_weight", before)  # no parameter: not in the state dict
    return _in_its_mode(model)


def remove_adapter(model: nn.Module) -> nn.Module:
    """Take an adapter out, merged or not, in place: SAM's weights are those of before, bit for bit, and still frozen.

    Returns:
        `model`.

    Raises:
        ConfigError: there is none.
    """
    merged = [module for module in _trunk(model).modules() if hasattr(module, "unmerged_weight")]
    if not merged and adapter_name(model) is None:
        raise ConfigError("there is no adapter to remove")
    for module in _adapted(model):
        _take_out(module)
    for module in merged:
        module.weight = nn.Parameter(module.unmerged_weight.to(module.weight), requires_grad=False)
        del module.unmerged_weight
    return _in_its_mode(model)


def adaptable_encoders() -> list[str]:
    """The names of the encoders that take adapters."""
    return [name for name, row in VARIANTS.items() if row.trunk is SamViT]


def adapter_name(model: nn.Module) -> str | None:
    """The method of the adapter in an SMP model or an encoder, if it has one."""
    for module in _adapted(model):
        return next(name for name, method in METHODS.items() if type(module.adapter) is method)
    return None


def is_adapter_tensor(name: str) -> bool:
    """Whether a name in a state dict, or of a parameter, is an adapter's; all others of `encoder.trunk.` are SAM's."""
    return ".adapter." in name


def adapter_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of the adapter in an SMP model or an encoder; none without one."""
    return (parameter for name, parameter in model.named_parameters() if is_adapter_tensor(name))


def _method(name: str, arguments: dict[str, Any]) -> type[nn.Module]:
    if name not in METHODS:
        close = nearest(str(name), list(METHODS))
        hint = f"; did you mean '{close}'?" if close else ""
        raise ConfigError(f"unknown adapter '{name}'{hint}; there are {', '.join(METHODS)}")
    known = [argument for argument in inspect.signature(METHODS[name]).parameters if argument != "width"]
    for argument in arguments:
        if argument not in known:
            close = nearest(argument, known)
            hint = f"; did you mean '{close}'?" if close else ""
            raise ConfigError(f"unknown argument '{argument}' of {name}{hint}; it takes blocks, {', '.join(known)}")
    return METHODS[name]


def _trunk(model: nn.Module) -> SamViT:
    encoder = getattr(model, "encoder", model)
    trunk = getattr(encoder, "trunk", None)
    if not isinstance(trunk, SamViT):
        found = getattr(encoder, "variant", type(encoder).__name__)
        raise ConfigError(f"{found} takes no adapter; {', '.join(adaptable_encoders())} do")
    return trunk


def _adapted(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if type(module) in PLAIN]


def _take_out(module: nn.Module) -> None:
    del module.adapter
    module.__class__ = PLAIN[type(module)]


def _in_its_mode(model: nn.Module) -> nn.Module:
    """Training or evaluation for what was put in, too; a trunk with nothing to train is always in evaluation mode."""
    encoder = getattr(model, "encoder", model)
    encoder.train(encoder.training)
    return model
