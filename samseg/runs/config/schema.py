"""The run's configuration: the sections of the rooms that own them, and what the run itself is told.

The comments document the keys.
"""

from dataclasses import dataclass, field

from samseg.data.config import DataConfig
from samseg.models.config import ModelConfig
from samseg.models.sam.prompts import PromptConfig
from samseg.tasks.losses import LossConfig


@dataclass
class TrainConfig:
    epochs: int = 50
    max_minutes: float | None = None  # of training and validation, the learning rate at zero by then; null: no limit
    batch_size: int | str = 2  # images per step and process; auto: the most that fit on the GPU, found before the run
    accumulate: int = 1  # batches per optimiser step
    lr: float = 3e-4  # of everything born random: adapter, pyramid, decoder, head
    encoder_lr: float | None = None  # of what is pretrained; null: lr / 10 with pretrained weights, lr without
    pyramid_lr: float | None = None  # of the pyramid of samseg's encoders; null: lr
    # Where the whole encoder learns: encoder_lr holds for its top, and each layer below learns at this share of the
    # rate of the one above, the embedding of patches last. 1: all at encoder_lr. null: with pretrained weights what is
    # usual for the encoder (docs/encoders.md), such as 0.8 for DINOv3; else 1.
    layer_decay: float | None = None
    weight_decay: float = 0.01  # of matrices and filters; norms, biases and positions have none
    loss: LossConfig = field(default_factory=LossConfig)
    warmup: float = 0.05  # share of all steps over which the learning rate rises; cosine to zero after it
    clip_norm: float = 1.0  # the gradient's norm is clipped to this
    precision: str = "fp32"  # fp32 | bf16 | fp16
    # Keep the input of each of the encoder's blocks alone and compute the rest again in the backward pass: the memory
    # of one block instead of all, the same gradients, a third more time. Of samseg's encoders, free or with an adapter.
    gradient_checkpointing: bool = False
    workers: int = 2  # processes that read and augment images; 0: none
    patience: int | None = None  # stop after so many epochs without a better mIoU; null: never
    # A frozen encoder runs once for each image and view (data.views); later epochs and runs read what it gave from the
    # disk. For data.resize: true without data.augment.
    cache_features: bool = False
    cache_dir: str | None = None  # null: the user's cache folder, ~/.cache/samseg/features
    cache_dtype: str = "float16"  # float16 | bfloat16 | float32 (exact, twice the disk)
    # tensorboard (events in the run's folder), mlflow, wandb: what follows the run, by its own environment variables,
    # such as MLFLOW_TRACKING_URI and WANDB_MODE=offline. What fails during the run is left out.
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    track_weights: bool = False  # hand the best weights over to the trackers that take files
    resume: bool = False  # continue the run in run_dir
    accept_changed_data: bool = False  # go on although images or masks are not those that the run was begun with


@dataclass
class RunConfig:
    task: str = "semantic"  # what is learnt: semantic (a class for every pixel) | promptable (SAM's masks from prompts)
    run_dir: str | None = None  # where the run is written; null: runs/<config's name>, then -2, -3 ...
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)  # of task: promptable
