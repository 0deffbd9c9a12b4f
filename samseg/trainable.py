"""Which parameters of a model are trained: freezing, counting, and the optimiser's groups."""

from torch import nn

from samseg.config import TrainConfig
from samseg.encoders import SamEncoder

POSITIONS = ("pos_embed", "rel_pos", "attention_biases")


def pretrained_part(model: nn.Module) -> nn.Module:
    """What of an SMP model is learned elsewhere: SAM's trunk without the pyramid, or another encoder as a whole."""
    return model.encoder.trunk if isinstance(model.encoder, SamEncoder) else model.encoder


def freeze_encoder(model: nn.Module) -> None:
    """Freeze what SAM learned and leave the pyramid, the decoder and the head trainable.

    The frozen part stays in evaluation mode when the model trains, so its running statistics do not move either. For
    encoders that are not SAM's this is SMP's own `model.freeze_encoder()`.
    """
    if not isinstance(model.encoder, SamEncoder):
        model.freeze_encoder()
        return
    model.unfreeze_encoder()  # SMP's own freezing, if it was called before, holds the pyramid too
    model.encoder.trunk.requires_grad_(False)
    model.encoder.trunk.eval()


def count_parameters(model: nn.Module) -> str:
    """One line such as "trainable: 3.1 M of 92.7 M parameters (pyramid, decoder, head); SAM's encoder is frozen"."""
    sam = isinstance(model.encoder, SamEncoder)
    parts = {"SAM's encoder" if sam else "encoder": pretrained_part(model)}
    if sam:
        parts["pyramid"] = model.encoder.pyramid
    parts |= {"decoder": model.decoder, "head": model.segmentation_head}
    trained = [name for name, part in parts.items() if any(p.requires_grad for p in part.parameters())]
    frozen = [name for name in parts if name not in trained]
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    line = f"trainable: {_millions(trainable)} of {_millions(total)} parameters ({', '.join(trained)})"
    return line + (f"; frozen: {', '.join(frozen)}" if frozen else "")


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """AdamW's groups: the pretrained part at `encoder_lr`, the rest at `lr`; norms, biases, positions do not decay."""
    pretrained = {id(p) for p in pretrained_part(model).parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not any(kind in name for kind in POSITIONS)
            groups.setdefault((id(parameter) in pretrained, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.encoder_lr if is_pretrained else config.lr,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_pretrained, decays), parameters in groups.items()
    ]


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"
