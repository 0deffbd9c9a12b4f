"""A small promptable SAM and a batch of images with different numbers of objects."""

import pytest
import torch

from samseg.encoders.encoder import TrunkEncoder
from samseg.models.class_tokens import ClassTokens
from samseg.models.promptable.config import PromptConfig
from samseg.models.promptable.model import PromptableModel
from samseg.models.sam import prompt_and_mask_decoder
from samseg.tasks.promptable.losses import PromptLoss
from tests.encoders.conftest import SMALL

SIZE = 64


def small(classes: int | None = None, hq: bool = False, **prompts) -> PromptableModel:
    """The same at every call."""
    torch.manual_seed(0)
    encoder = TrunkEncoder(SMALL)
    encoder.keep_taps((0, -1) if hq else (-1,))
    parts = prompt_and_mask_decoder(SIZE, encoder.tap_channels[0] if hq else None)
    config = PromptConfig(**{"rounds": 2, "objects": 3, "none": 0.0 if classes is None else 0.3} | prompts)
    tokens = None if classes is None else ClassTokens(classes)
    return PromptableModel(encoder, *parts, config, PromptLoss(config.loss, config.iou), tokens)


@pytest.fixture
def batch() -> dict:
    """Three images with no, one and five objects."""
    objects = torch.zeros(3, SIZE, SIZE, dtype=torch.long)
    objects[1, 5:40, 9:30] = 1
    for number in range(1, 6):
        objects[2, 10 * number : 10 * number + 8, 3:50] = number
    image = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return {"image": image, "objects": objects, "valid": torch.ones_like(objects, dtype=torch.bool)}
