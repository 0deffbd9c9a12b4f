"""Put adapters into an encoder and take them out.

A module that is given an adapter keeps its own tensors under their own names and gets a child called `adapter`. So a
state dict holds the network's tensors under their own names, and those of adapters are the ones that
`is_adapter_tensor` names.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from samseg.common.errors import ConfigError
from samseg.encoders import ROWS
from samseg.encoders.adapters.adapter import Adapter, InputAdapter
from samseg.encoders.adapters.methods import METHODS, complete_arguments, known_method
from samseg.encoders.encoder import trunk_of
from samseg.encoders.trunk import Trunk


def add_adapter(model: nn.Module, name: str, *, blocks: list[int] | None = None, **arguments: Any) -> nn.Module:
    """Put an adapter into an encoder, in place, and freeze the rest of what was pretrained.

    Nothing changes at first: each adapter adds zero until it is trained. Load pretrained weights before.

    Args:
        model: an SMP model with an encoder that has places for adapters, or such an encoder itself.
        name: a row of `samseg.encoders.adapters.methods`, such as "lora".
        blocks: indices of the transformer blocks that get one; None: all.
        arguments: the method's own, such as LoRA's rank and alpha.

    Returns:
        `model`.

    Raises:
        ConfigError: the encoder has no place for adapters or has one already, or an argument is unknown or unfit.
    """
    arguments = complete_arguments(known_method(name), {"blocks": blocks} | arguments, f"{name}: ")
    trunk, encoder = trunk_of(model), getattr(model, "encoder", model)
    check_sites(name, getattr(encoder, "variant", type(encoder).__name__), trunk)
    if (found := adapter_name(model)) is not None:
        raise ConfigError(f"the encoder has an adapter already ({found}); take it out first: samseg.remove_adapter")
    depth = 1 + max(site.block for site in trunk.adapter_sites())
    blocks = arguments.pop("blocks")
    blocks = list(range(depth)) if blocks is None else sorted(set(blocks))
    if max(blocks) >= depth:
        raise ConfigError(f"an adapter's blocks must be some of 0 to {depth - 1}, got {blocks}")
    adapters = _built(METHODS[name], trunk, blocks, arguments)
    trunk.requires_grad_(False)
    for module, adapter in adapters:
        like = next(module.parameters())
        module.adapter = adapter.to(like.device, like.dtype)
    return _in_its_mode(model)


def merge_adapter(model: nn.Module) -> nn.Module:
    """Fold an adapter into the weights, in place: a plain network with the same output, for inference and export.

    The encoder keeps the weights that were changed as they were before, for `remove_adapter`.

    Returns:
        `model`.

    Raises:
        ConfigError: there is no adapter, or its update is no matrix, as LoRA's is.
    """
    if not can_be_merged(model):
        able = ", ".join(name for name, method in METHODS.items() if hasattr(method, "delta"))
        found = adapter_name(model) or "none"
        raise ConfigError(f"only a {able} adapter can be merged into the weights; the model's adapter is {found}")
    for module in _adapted(model):
        before = module.weight.detach()
        with torch.no_grad():
            merged = before + module.adapter.delta().to(before.dtype)
        _take_out(module)
        module.weight = nn.Parameter(merged, requires_grad=False)
        module.unmerged_weight = getattr(module, "unmerged_weight", before)  # no parameter: not in the state dict
    return _in_its_mode(model)


def remove_adapter(model: nn.Module) -> nn.Module:
    """Take an adapter out, merged or not, in place: the weights are those of before, bit for bit, and still frozen.

    Returns:
        `model`.

    Raises:
        ConfigError: there is none.
    """
    merged = [module for module in model.modules() if hasattr(module, "unmerged_weight")]
    if not merged and adapter_name(model) is None:
        raise ConfigError("there is no adapter to remove")
    for module in _adapted(model):
        _take_out(module)
    for module in merged:
        module.weight = nn.Parameter(module.unmerged_weight.to(module.weight), requires_grad=False)
        del module.unmerged_weight
    return _in_its_mode(model)


def check_sites(name: str, encoder: str, trunk: Trunk | None) -> None:
    """ConfigError unless the ``trunk`` of an ``encoder`` has all places that a method goes to; None has none."""
    wanted = _kinds(METHODS[name]).keys()

    def kinds(trunk: Trunk) -> set[str]:
        return {site.kind for site in trunk.adapter_sites()}

    found = set() if trunk is None else kinds(trunk)
    if not wanted <= found:
        lack = f"has no place for {name} ({', '.join(sorted(wanted - found))})" if found else "takes no adapter"
        able = ", ".join(other for other, row in ROWS.items() if wanted <= kinds(row.outline))
        raise ConfigError(f"{encoder} {lack}; {able} do")


def adapter_name(model: nn.Module) -> str | None:
    """The method of the adapter in an SMP model or an encoder, if it has one."""
    for module in _adapted(model):
        return next(name for name, method in METHODS.items() if type(module.adapter) is method)
    return None


def can_be_merged(model: nn.Module) -> bool:
    """Whether there is an adapter that `merge_adapter` takes."""
    return any(hasattr(module.adapter, "delta") for module in _adapted(model))


def is_adapter_tensor(name: str) -> bool:
    """Whether a name in a state dict, or of a parameter, is an adapter's, and not the network's own."""
    return "adapter" in name.split(".")


def adapter_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of the adapter in an SMP model or an encoder; none without one."""
    return (parameter for name, parameter in model.named_parameters() if is_adapter_tensor(name))


def _kinds(method: type[Adapter] | type[InputAdapter]) -> dict[str, dict[str, Any]]:
    return {"input": {}} if issubclass(method, InputAdapter) else method.sites


def _built(
    method: type[Adapter] | type[InputAdapter], trunk: Trunk, blocks: list[int], arguments: dict[str, Any]
) -> list[tuple[nn.Module, nn.Module]]:
    """The adapters of a method, each with the module that it goes to."""
    kinds = _kinds(method)
    chosen = [site for site in trunk.adapter_sites() if site.kind in kinds and site.block in (*blocks, -1)]
    if issubclass(method, InputAdapter):
        [site], first = chosen, trunk.first_convolution()
        return [(site.module, method(site.width, first.in_channels, first.kernel_size[0], blocks, **arguments))]
    found = []
    for site in chosen:
        out = {} if site.out is None else {"out": site.out}
        found.append((site.module, method(site.width, **out, **kinds[site.kind], **arguments)))
    return found


def _adapted(model: nn.Module) -> list[nn.Module]:
    return [
        module for module in model.modules() if isinstance(getattr(module, "adapter", None), Adapter | InputAdapter)
    ]


def _take_out(module: nn.Module) -> None:
    del module.adapter
    module.adapter = None


def _in_its_mode(model: nn.Module) -> nn.Module:
    """Training or evaluation for what was put in, too; a trunk with nothing to train is always in evaluation mode."""
    encoder = getattr(model, "encoder", model)
    encoder.train(encoder.training)
    return model
