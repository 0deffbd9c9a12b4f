"""What a configuration says of the prompts that SAM is trained with, under the key `prompts`."""

import math
from dataclasses import dataclass

from samseg.common.errors import ConfigError, did_you_mean, require

LOSSES = ("dice+bce", "dice+focal")


@dataclass
class PromptConfig:
    """Prompts simulated from the true objects, as micro-sam does (Archit et al., 2025), and the loss of the answers."""

    # Names of the classes whose connected areas are objects, where the source does not number objects itself; null: all
    # but the first.
    classes: list[str] | None = None
    objects: int | None = 25  # of an image in a step, drawn anew each time, and in evaluation; null: all
    min_pixels: int = 10  # smaller objects are neither learnt nor counted; of the network's input, or of the image
    box: float = 0.5  # share of steps that begin with a box; the others begin with one point and three answers
    box_jitter: float = 0.025  # the box's sides are pushed out by up to this share of its extent
    rounds: int = 8  # corrections of the first answer: a point where it lacks something, one where it has too much
    ring: int = 3  # px around the box that the latter point is drawn from where nothing is too much
    mask: float = 0.5  # share of the corrections that are also given the last answer as a mask prompt
    loss: str = "dice+bce"  # dice+bce | dice+focal (SAM's 1 to 20); of three answers to a point the best counts
    # Share of the prompts that are for an object that is not there, in place of one that is, where an image has room:
    # they teach SAM 2 and 3 their score of whether there is an object. 0: it stays as it came.
    absent: float = 0.0
    iou: float = 1.0  # weight of the squared error of the predicted IoU; 0 spoils SAM's automatic mask generator
    # Share of steps without any prompt: they train a token for each class of data.classes, beside SAM's own, which
    # predicts the classes of a whole image. 0: no such tokens.
    none: float = 0.0


def complete_prompts(prompts: PromptConfig, classes: list[str]) -> None:
    """Check the section; ConfigError for what cannot be."""
    for key in ("objects", "min_pixels"):
        require(f"prompts.{key}", getattr(prompts, key), "at least 1", lambda value: value >= 1)
    for key in ("rounds", "ring"):
        require(f"prompts.{key}", getattr(prompts, key), "at least 0", lambda value: value >= 0)
    for key in ("box", "mask"):
        require(f"prompts.{key}", getattr(prompts, key), "a share, from 0 to 1", lambda value: 0 <= value <= 1)
    require("prompts.absent", prompts.absent, "a share, from 0 to below 1", lambda value: 0 <= value < 1)
    require("prompts.none", prompts.none, "a share of the steps, from 0 to below 1", lambda value: 0 <= value < 1)
    for key in ("box_jitter", "iou"):
        require(f"prompts.{key}", getattr(prompts, key), "at least 0", lambda value: 0 <= value < math.inf)
    if prompts.loss not in LOSSES:
        raise ConfigError(
            f"prompts.loss must be {' or '.join(LOSSES)}, got {prompts.loss!r}{did_you_mean(prompts.loss, LOSSES)}"
        )
    if prompts.none > 0 and len(classes) < 2:
        raise ConfigError(
            f"prompts.none={prompts.none} trains without prompts, which needs two classes or more in data.classes, got "
            f"{len(classes)}; name them ({{background: 0, object: 1}} where there are instances/ and no masks/), or "
            "set prompts.none=0"
        )
    for name in prompts.classes or []:
        if name not in classes:
            raise ConfigError(
                f"prompts.classes: there is no class {name}{did_you_mean(name, classes)}; data.classes names "
                f"{', '.join(classes) or 'none'}"
            )
