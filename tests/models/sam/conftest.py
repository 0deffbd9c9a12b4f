"""A small promptable SAM and a batch of images with different numbers of objects."""

import pytest
import torch

from samseg.models.sam.class_tokens import ClassTokens
from samseg.models.sam.contract import PromptableSam
from samseg.models.sam.files import empty_sam
from samseg.models.sam.prompts import PromptConfig
from samseg.models.sam.rounds import Rounds
from samseg.tasks.promptable.losses import PromptLoss
from tests.encoders.conftest import SMALL

SIZE = 64


def small(
    classes: int | None = None, hq: bool = False, variant: str = SMALL, size: int = SIZE, **prompts
) -> PromptableSam:
    """The same at every call."""
    torch.manual_seed(0)
    sam = empty_sam(variant, size, hq).train()
    config = PromptConfig(**{"rounds": 2, "objects": 3, "none": 0.0 if classes is None else 0.3} | prompts)
    sam.rounds = Rounds(config, PromptLoss(config.loss, config.iou))
    sam.freeze_for_training()
    sam.class_tokens = None if classes is None else ClassTokens(classes)
    return sam


@pytest.fixture
def batch() -> dict:
    """Three images with no, one and five objects."""
    objects = torch.zeros(3, SIZE, SIZE, dtype=torch.long)
    objects[1, 5:40, 9:30] = 1
    for number in range(1, 6):
        objects[2, 10 * number : 10 * number + 8, 3:50] = number
    image = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return {"image": image, "objects": objects, "valid": torch.ones_like(objects, dtype=torch.bool)}
