"""Which parameters of a model are trained: freezing, counting, and the optimiser's groups."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from samseg.common.errors import ConfigError
from samseg.encoders import ROWS
from samseg.encoders.adapters.insert import adapter_name, adapter_parameters, is_adapter_tensor
from samseg.encoders.encoder import trunk_of

POSITIONS = ("pos_embed", "rel_pos", "attention_biases", "cls_token", "reg_token")


def pretrained_part(model: nn.Module) -> nn.Module:
    """The pretrained part of a model: a trunk without the pyramid, or another library's encoder as a whole."""
    return trunk_of(model) or model.encoder


def freeze_encoder(model: nn.Module) -> None:
    """Freeze what was pretrained and leave the adapter, the pyramid, the decoder and the head trainable.

    The frozen part stays in evaluation mode when the model trains, so its running statistics do not move either. For
    another library's encoders this is SMP's own `model.freeze_encoder()`.
    """
    if trunk_of(model) is None:
        model.freeze_encoder()
        return
    model.unfreeze_encoder()  # SMP's own freezing, if it was called before, holds the pyramid too
    model.encoder.trunk.requires_grad_(False)
    for parameter in adapter_parameters(model):
        parameter.requires_grad_(True)
    model.encoder.train(model.encoder.training)  # which puts a trunk with nothing to train into evaluation mode


def checkpoint_gradients(model: nn.Module) -> None:
    """Let the encoder's trunk compute its blocks again in the backward pass instead of keeping their activations.

    Raises ConfigError for an encoder that cannot.
    """
    trunk = trunk_of(model)
    if trunk is None or trunk.gradient_checkpointing is None:
        able = ", ".join(name for name, row in ROWS.items() if row.outline.gradient_checkpointing is not None)
        raise ConfigError(
            f"train.gradient_checkpointing: {_name(model)} cannot compute its blocks again, {able} can; set it to false"
        )
    trunk.gradient_checkpointing = True


def learns_statistics(model: nn.Module) -> bool:
    """Whether batch normalisation takes part when the model trains; that of a frozen encoder does not."""
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


def count_parameters(model: nn.Module) -> str:
    """One line such as "trainable: 3.1 M of 92.7 M parameters (pyramid, decoder, head); frozen: encoder"."""
    parts = _parts(model)
    trained = [part for part, named in parts.items() if any(p.requires_grad for p in named.values())]
    frozen = [part for part in parts if part not in trained]
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    line = f"trainable: {_millions(trainable)} of {_millions(total)} parameters ({', '.join(trained)})"
    return line + (f"; frozen: {', '.join(frozen)}" if frozen else "")


def parameter_groups(
    model: nn.Module, *, lr: float, encoder_lr: float, pyramid_lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict]:
    """AdamW's groups, a learning rate and a weight decay each.

    The pretrained part learns at `encoder_lr`, lowered by `layer_decay` from block to block, the pyramid at
    `pyramid_lr`, all else at `lr`. Norms, biases, positions and tokens do not decay. Raises ConfigError for a
    `layer_decay` of an encoder whose layers are not known.
    """
    trunk = trunk_of(model)
    if layer_decay != 1 and (trunk is None or not trunk.top_layer):
        able = ", ".join(name for name, row in ROWS.items() if row.outline.top_layer)
        raise ConfigError(f"train.layer_decay={layer_decay} is for {able}, not for {_name(model)}; set it to 1")
    rates = {"encoder": encoder_lr, "pyramid": pyramid_lr}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for part, named in _parts(model).items():
        for name, parameter in named.items():
            if parameter.requires_grad:
                rate = rates.get(part, lr)
                if part == "encoder" and layer_decay != 1:
                    rate *= layer_decay ** (trunk.top_layer - trunk.layer_of(name.removeprefix("encoder.trunk.")))
                decays = (
                    parameter.ndim > 1 and not name.endswith("bias") and not any(kind in name for kind in POSITIONS)
                )
                groups.setdefault((rate, weight_decay if decays else 0.0), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


def _parts(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """A model's parameters by name, under the name of the part of the model they belong to."""
    with_trunk = trunk_of(model) is not None
    prefixes = {"encoder.trunk.": "encoder", "encoder.": "pyramid"} if with_trunk else {"encoder.": "encoder"}
    prefixes |= {name + ".": name.replace("_", " ") for name in ("prompt_encoder", "mask_decoder", "class_tokens")}
    prefixes |= {"decoder.": "decoder", "": "head"}
    adapter = adapter_name(model)
    parts: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        part = next(part for prefix, part in prefixes.items() if name.startswith(prefix))
        if adapter is not None and is_adapter_tensor(name):
            part = adapter
        parts.setdefault(part, {})[name] = parameter
    return parts


def _name(model: nn.Module) -> str:
    return getattr(model.encoder, "variant", type(model.encoder).__name__)


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"
