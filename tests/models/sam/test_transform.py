"""How an image becomes SAM 2's square; SAM's own is compared with segment-anything's predictor in `test_predictor`."""

import numpy as np
import pytest
import torch
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from samseg.encoders.registry import MEAN, STD
from samseg.models.sam.transform import Squashed
from tests.models.sam.reference import picture


@pytest.mark.parametrize("shape", [(90, 120), (300, 160), (1, 70)])  # enlarged, and shrunk with antialiasing
def test_both_sides_are_squashed_as_sam2_does(shape):
    image = np.ascontiguousarray(picture(300, 160)[: shape[0], : shape[1]])
    transform = Squashed(128)
    theirs = Compose([ToTensor(), Resize((128, 128)), Normalize(MEAN, STD)])
    torch.testing.assert_close(transform(image), theirs(image), rtol=1e-5, atol=1e-5)
    corners = np.array([[0, 0], [shape[1], shape[0]]])
    assert transform.apply_coords(corners, shape).tolist() == [[0, 0], [128, 128]]
    assert transform.restore(torch.zeros(2, 3, 32, 32), shape).shape == (2, 3, *shape)
