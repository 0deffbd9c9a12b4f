"""The run's configuration: one dataclass a concern, read from YAML and ``key=value``. The comments document it."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from samseg import typed_yaml
from samseg.data.classes import parse_classes
from samseg.errors import ConfigError, InputError
from samseg.files import written_whole

PRECISIONS = ("fp32", "bf16", "fp16")
CACHE_DTYPES = ("float16", "bfloat16", "float32")


ADAPTERS: dict[str, dict[str, Any]] = {  # the keys of each method, and what they are if left out
    "lora": {"rank": 4, "alpha": None},
    "conv_lora": {"rank": 3, "alpha": 32.0, "experts": 8},
    "adapter": {"ratio": 0.25},
}


@dataclass
class AdapterConfig:
    """Small trainable parts in SAM's frozen encoder (sam-vit_b, sam-vit_l, sam-vit_h); they learn at train.lr."""

    name: str | None = None  # lora: on q and v | conv_lora: on q, k and v | adapter: bottlenecks in each block | null
    blocks: list[int] | None = None  # indices of the transformer blocks that get one; null: all
    rank: int | None = None  # of lora (null: 4) and conv_lora (null: 3)
    alpha: float | None = None  # what is learned is scaled by alpha / rank; null: by 1 in lora, alpha 32 in conv_lora
    experts: int | None = None  # of conv_lora: convolutions at 1 .. experts times the resolution, one chosen; null: 8
    ratio: float | None = None  # of adapter: its hidden width as a share of the encoder's; null: 0.25


@dataclass
class ModelConfig:
    arch: str = "unet"  # any SMP decoder by name: unet, fpn, segformer, deeplabv3plus ...
    encoder: str = "sam-vit_b"  # sam-vit_b | sam-vit_l | sam-vit_h | sam-vit_t, or any encoder of SMP, such as resnet34
    weights: str | None = "sa-1b"  # sa-1b | imagenet | a checkpoint's path | null: start at random
    freeze_encoder: bool = True  # train the decoder (and SAM's pyramid and the adapter) only
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    decoder: dict[str, Any] = field(default_factory=dict)  # arguments of the SMP class, {decoder_channels: [64, 32]}


@dataclass
class DataConfig:
    root: str = "data/sample"  # holds train/, val/, test/, each images/ and masks/; relative to the current directory
    # name: mask value, list of values, or for RGB masks a colour as [r, g, b] or "#rrggbb", or a list of colours. The
    # order gives the class index. Entries that are all lists of three numbers are colours.
    classes: dict[str, Any] = field(default_factory=dict)
    ignore: list[Any] = field(default_factory=list)  # mask values (or colours) that count neither in loss nor metrics
    image_size: int = 1024  # the network's input, pixels a side; a multiple of 16
    resize: bool = True  # longest side to image_size; false: random crops of image_size at native resolution
    views: int = 1  # 1, 2, 4 or 8 views of each training image, one drawn at random per step: as it is; and mirrored;
    # and both upside down (aerial images have no up); and all of these turned by a quarter. They come before augment.
    augment: list[Any] = field(default_factory=list)  # albumentations: HorizontalFlip, or {RandomScale: {p: 0.5}}
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])  # of R, G, B on 0..1; SAM's are ImageNet's
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])


@dataclass
class LossConfig:
    """Weights of the losses that are added up. Those left out are off; with none named it is cross entropy alone."""

    ce: float | None = None  # cross entropy
    dice: float | None = None
    focal: float | None = None
    lovasz: float | None = None
    class_weights: Any = None  # null | balanced (from the training masks) | {class name: weight}, 1 for those left out


@dataclass
class TrainConfig:
    epochs: int = 50
    batch_size: int | str = 2  # images per step and process; auto: the most that fit on the GPU, found before the run
    accumulate: int = 1  # batches per optimiser step
    lr: float = 3e-4  # of everything born random: adapter, pyramid, decoder, head
    encoder_lr: float | None = None  # of what is pretrained; null: lr / 10 with pretrained weights, lr without
    pyramid_lr: float | None = None  # of the pyramid that SAM's encoders get; null: lr
    # Full fine-tuning of SAM's ViTs: encoder_lr holds for the neck, and each block below it learns at this share of the
    # rate of the one above, the patches' and positions' embedding last. 1: all at encoder_lr. 0.65 to 0.9 are usual.
    layer_decay: float = 1.0
    weight_decay: float = 0.01  # of matrices and filters; norms, biases and positions have none
    loss: LossConfig = field(default_factory=LossConfig)
    warmup: float = 0.05  # share of all steps over which the learning rate rises; cosine to zero after it
    clip_norm: float = 1.0  # the gradient's norm is clipped to this
    precision: str = "fp32"  # fp32 | bf16 | fp16
    # Keep the input of each of the encoder's blocks alone and compute the rest again in the backward pass: the memory
    # of one block instead of all, the same gradients, a third more time. Of SAM's encoders, free or with an adapter.
    gradient_checkpointing: bool = False
    workers: int = 2  # processes that read and augment images; 0: none
    patience: int | None = None  # stop after so many epochs without a better mIoU; null: never
    # A frozen encoder runs once for each image and view (data.views); later epochs and runs read what it gave from the
    # disk. For data.resize: true without data.augment.
    cache_features: bool = False
    cache_dir: str | None = None  # null: the user's cache folder, ~/.cache/samseg/features
    cache_dtype: str = "float16"  # float16 | bfloat16 | float32 (exact, twice the disk)
    resume: bool = False  # continue the run in run_dir


@dataclass
class RunConfig:
    run_dir: str | None = None  # where the run is written; null: runs/<config's name>, then -2, -3 ...
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Read a YAML file with ``dotted.key=value`` overrides, check every value, fill in those that follow from others.

    Raises ConfigError, one line, for anything that is unknown, mistyped or out of range.
    """
    config = typed_yaml.load(RunConfig, path, overrides or [])
    _check_data(config.data)
    _check_adapter(config.model)
    _check_train(config)
    _check_cache(config)
    _resolve(config)
    return config


def save_config(config: RunConfig, path: str | Path) -> None:
    """Write ``config``, all of it, as YAML that `load_config` reads back as an equal object."""
    with written_whole(path) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")


def read_run_config(run_dir: str | Path) -> RunConfig:
    """The configuration a run was trained with; InputError when ``run_dir`` is no run folder."""
    run_dir = Path(run_dir)
    if not run_dir.is_dir():
        raise InputError(f"no such run folder: {run_dir}")
    if not (run_dir / "config.yaml").is_file():
        raise InputError(f"{run_dir} is not a run folder: it has no config.yaml")
    return load_config(run_dir / "config.yaml")


def adapter_arguments(adapter: AdapterConfig) -> dict[str, Any]:
    """The arguments of the chosen method, and its blocks."""
    return {key: getattr(adapter, key) for key in ("blocks", *ADAPTERS[adapter.name])}


def _check_data(data: DataConfig) -> None:
    parse_classes(data.classes, data.ignore)
    size, nearest = data.image_size, max(16, (data.image_size + 8) // 16 * 16)
    if size != nearest:
        raise ConfigError(f"data.image_size must be a multiple of 16, got {size}; try {nearest}")
    if data.views not in (1, 2, 4, 8):
        raise ConfigError(f"data.views must be 1, 2, 4 or 8 (flips, then quarter turns), got {data.views}")
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) != 3:
            raise ConfigError(f"data.{key} must hold three numbers (R, G, B), got {values}")
        if not all(math.isfinite(value) and 0 <= value <= 1 for value in values) or (key == "std" and 0 in values):
            raise ConfigError(f"data.{key} is given on the scale 0..1 (std above 0), got {values}; divide by 255?")


def _check_adapter(model: ModelConfig) -> None:
    adapter = model.adapter
    if adapter.name is not None and adapter.name not in ADAPTERS:
        close = typed_yaml.nearest(adapter.name, list(ADAPTERS))
        hint = f"; did you mean {close}?" if close else ""
        raise ConfigError(f"model.adapter.name must be {', '.join(ADAPTERS)} or null, got {adapter.name!r}{hint}")
    known = ["blocks", *ADAPTERS[adapter.name]] if adapter.name else []
    for item in fields(adapter):
        if item.name not in ("name", *known) and getattr(adapter, item.name) is not None:
            takes = f"{adapter.name} takes {', '.join(known)}" if known else "set model.adapter.name first"
            raise ConfigError(f"model.adapter.{item.name} is not a key of model.adapter.name={adapter.name}; {takes}")
    if adapter.name and not model.freeze_encoder:
        raise ConfigError(
            f"model.adapter.name={adapter.name} learns beside a frozen encoder, but model.freeze_encoder is false: set "
            "it to true, or model.adapter.name to null to train the whole encoder"
        )
    _require("model.adapter.rank", adapter.rank, "at least 1", lambda value: value >= 1)
    _require("model.adapter.alpha", adapter.alpha, "above 0", lambda value: 0 < value < math.inf)
    _require("model.adapter.experts", adapter.experts, "at least 2", lambda value: value >= 2)
    _require("model.adapter.ratio", adapter.ratio, "above 0", lambda value: 0 < value < math.inf)
    if adapter.blocks is not None and (not adapter.blocks or min(adapter.blocks) < 0):
        raise ConfigError(f"model.adapter.blocks must be indices of blocks from 0, or null for all: {adapter.blocks}")


def _check_train(config: RunConfig) -> None:
    train = config.train
    if isinstance(train.batch_size, str) and train.batch_size != "auto":
        raise ConfigError(f"train.batch_size must be an integer or auto, got {train.batch_size!r}")
    for key in ("epochs", "batch_size", "accumulate", "patience"):
        _require(f"train.{key}", getattr(train, key), "at least 1", lambda value: value == "auto" or value >= 1)
    _require("train.workers", train.workers, "at least 0", lambda value: value >= 0)
    _require("seed", config.seed, "in 0 .. 2**32 - 1", lambda value: 0 <= value < 2**32)
    for key in ("lr", "encoder_lr", "pyramid_lr"):
        _require(f"train.{key}", getattr(train, key), "above 0", lambda value: 0 < value < math.inf)
    _require("train.weight_decay", train.weight_decay, "at least 0", lambda value: 0 <= value < math.inf)
    _require("train.clip_norm", train.clip_norm, "above 0", lambda value: value > 0)
    _require("train.warmup", train.warmup, "a share of all steps, from 0 to below 1", lambda value: 0 <= value < 1)
    _require("train.layer_decay", train.layer_decay, "above 0 and at most 1", lambda value: 0 < value <= 1)
    if train.layer_decay != 1 and config.model.freeze_encoder:
        raise ConfigError(
            f"train.layer_decay={train.layer_decay} does nothing while model.freeze_encoder is true: set one of them "
            "otherwise (train.layer_decay=1 is off)"
        )
    if train.gradient_checkpointing and config.model.freeze_encoder and config.model.adapter.name is None:
        raise ConfigError(
            "train.gradient_checkpointing does nothing while the encoder is frozen without an adapter: "
            "then no activations are kept; set it to false"
        )
    if train.precision not in PRECISIONS:
        raise ConfigError(f"train.precision must be one of {', '.join(PRECISIONS)}; got {train.precision!r}")
    weights = loss_weights(train.loss)
    for name, weight in weights.items():
        _require(f"train.loss.{name}", weight, "at least 0", lambda value: 0 <= value < math.inf)
    named = [weight for weight in weights.values() if weight is not None]
    if named and not any(named):
        raise ConfigError(
            f"train.loss: every weight is 0, so nothing would be trained; set one of {', '.join(weights)}"
        )
    _check_class_weights(train.loss.class_weights, list(config.data.classes))


def _check_cache(config: RunConfig) -> None:
    if config.train.cache_dtype not in CACHE_DTYPES:
        raise ConfigError(
            f"train.cache_dtype must be one of {', '.join(CACHE_DTYPES)}; got {config.train.cache_dtype!r}"
        )
    if not config.train.cache_features:
        return
    for impossible, reason in (
        (
            not config.model.freeze_encoder,
            "model.freeze_encoder is false: the features change with every step; set it to true",
        ),
        (
            bool(config.data.augment),
            "data.augment makes every image new in every epoch: the features would never be used again; flips and "
            "quarter turns are cached with data.views=2, 4 or 8, other augmentation is not: set data.augment=[]",
        ),
        (
            not config.data.resize,
            "data.resize is false: crops at random places are never seen twice; set it to true, or cut the images "
            "into tiles beforehand",
        ),
    ):
        if impossible:
            raise ConfigError(f"train.cache_features cannot be used: {reason}, or set train.cache_features=false")


def _check_class_weights(weights: Any, classes: list[str]) -> None:
    key = "train.loss.class_weights"
    if weights is None or weights == "balanced":
        return
    if not isinstance(weights, dict):
        raise ConfigError(f"{key} must be null, balanced or a mapping of class names to weights, got {weights!r}")
    for name, weight in weights.items():
        if name not in classes:
            close = typed_yaml.nearest(str(name), classes)
            hint = f"did you mean {close}?" if close else f"data.classes names {', '.join(classes)}"
            raise ConfigError(f"{key}: there is no class {name}; {hint}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise ConfigError(f"{key}.{name} must be a number, at least 0, got {weight!r}")
    if not any(weights.get(name, 1) > 0 for name in classes):
        raise ConfigError(f"{key}: every class has weight 0, so there is nothing to train")


def _require(key: str, value: float | None, wanted: str, holds) -> None:
    if value is not None and not holds(value):
        raise ConfigError(f"{key} must be {wanted}, got {value}")


def loss_weights(loss: LossConfig) -> dict[str, float | None]:
    """The losses by name, in their declared order, without the class weights."""
    return {item.name: getattr(loss, item.name) for item in fields(loss) if item.name != "class_weights"}


def _resolve(config: RunConfig) -> None:
    """Fill in what follows from other values, in place, so that the run's config.yaml says all and loads as it is."""
    train, loss = config.train, config.train.loss
    config.data.root = str(Path(config.data.root).expanduser())
    if config.model.weights is not None and (file := Path(config.model.weights).expanduser()).is_file():
        config.model.weights = str(file.resolve())  # the run's readers need the file, too, from wherever they start
    if train.encoder_lr is None:
        train.encoder_lr = train.lr / 10 if config.model.weights is not None else train.lr
    if train.pyramid_lr is None:
        train.pyramid_lr = train.lr
    adapter = config.model.adapter
    for key, default in ADAPTERS.get(adapter.name, {}).items():
        if getattr(adapter, key) is None:
            setattr(adapter, key, default)
    if all(weight is None for weight in loss_weights(loss).values()):
        loss.ce = 1.0
    for name, weight in loss_weights(loss).items():
        setattr(loss, name, float(weight or 0))
    if isinstance(loss.class_weights, dict):
        loss.class_weights = {name: float(loss.class_weights.get(name, 1)) for name in config.data.classes}
