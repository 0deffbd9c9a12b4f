"""Images that EXIF turns, beside masks that it does not."""

import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import InputError
from samseg.data.check import check_dataset
from samseg.data.config import DataConfig

CLASSES = {"ground": 0, "roof": 1}


def pair(root, orientation, mask_orientation=None, shape=(8, 8)):
    for kind, array, turned in (
        ("images", np.zeros((*shape, 3), np.uint8), orientation),
        ("masks", np.zeros(shape if mask_orientation or orientation < 5 else shape[::-1], np.uint8), mask_orientation),
    ):
        (root / "train" / kind).mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if turned:
            exif[0x0112] = turned
        Image.fromarray(array).save(root / "train" / kind / "a.png", exif=exif)


def check(root):
    return check_dataset(DataConfig(root=str(root), classes=CLASSES), ["train"])


@pytest.mark.parametrize("orientation, shape", [(3, (6, 8)), (2, (6, 8)), (6, (8, 8))])
def test_a_mask_of_which_nobody_can_tell_is_refused(tmp_path, orientation, shape):
    pair(tmp_path, orientation, shape=shape)
    with pytest.raises(InputError, match=rf"EXIF turns .*a.png \(orientation {orientation}\) but not .*masks/a.png"):
        check(tmp_path)


@pytest.mark.parametrize("orientation, mask_orientation, shape", [(6, None, (6, 8)), (3, 3, (8, 8)), (1, None, (8, 8))])
def test_one_that_fits_is_not(tmp_path, orientation, mask_orientation, shape):
    pair(tmp_path, orientation, mask_orientation, shape)
    assert check(tmp_path).images("train") == 1
