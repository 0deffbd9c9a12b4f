import json
from argparse import Namespace
from unittest.mock import patch

import numpy as np
import pytest
import segmentation_models_pytorch as smp
from PIL import Image

from benchmarks import pretrain
from benchmarks.generated import scene
from samseg.data.sources.folder_layouts import FoldersConfig
from samseg.data.sources.folders import FolderSource
from samseg.encoders import ROWS
from samseg.tasks import TASKS


def write(root, split, images, size):
    for kind in ("images", "instances"):
        (root / split / kind).mkdir(parents=True)
    for number in range(images):
        image, objects = scene(number, size)
        Image.fromarray(image).save(root / split / "images" / f"{number}.png")
        Image.fromarray(objects.astype(np.uint16)).save(root / split / "instances" / f"{number}.png")


def test_each_object_stands_whole_in_one_tile(tmp_path):
    objects = np.zeros((120, 160), np.uint16)
    objects[1:9, 2:14] = 3  # in a corner
    objects[25:35, 70:90] = 7  # across a quarter's border
    objects[31:34, 61:66] = 8  # whole in the tile of 7, too
    objects[100:115, 40:41] = 9
    objects[40:80, 100:160] = 11  # larger than a tile
    for kind, pixels in (("images", np.repeat(objects[..., None], 3, 2).astype(np.uint8)), ("instances", objects)):
        (tmp_path / "real/test" / kind).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "real/test" / kind / "a.png")
    pretrain.write_tiles(tmp_path / "real", tmp_path / "tiles", "test")
    source, found = FolderSource(tmp_path / "tiles", "test", FoldersConfig()), {}
    for name in source.names:
        tile, image = source.instances(name), source.image(name).pixels
        assert tile.shape == image.shape[1:] == (30, 40)
        for number in np.unique(tile[tile > 0]):
            assert number not in found and (image[0][tile == number] == number).all()
            found[number] = (tile == number).sum()
    assert found == {number: (objects == number).sum() for number in (3, 7, 8, 9)}


@pytest.fixture
def known():
    """Encoders and tasks that a benchmark makes known are forgotten."""
    with patch.dict(ROWS), patch.dict(TASKS), patch.dict(smp.encoders.encoders):
        yield


@pytest.mark.slow  # three trainings
@pytest.mark.parametrize("encoder", pretrain.ENCODERS)
def test_figures_and_pictures_of_one_step(tmp_path, encoder, known):
    for split in ("train", "val", "test"):
        write(tmp_path / "real", split, images=1, size=128)
    given = dict(data=tmp_path / "real", encoder=[encoder], size=32, steps=1, epochs=1)
    pretrain.run(Namespace(**given, out=tmp_path / "out", weights=None))
    found = json.loads((tmp_path / "out" / encoder / "results.json").read_text())
    assert found["objects"] > 0 and set(found["before"]) == set(found["without"]) == set(pretrain.WAYS)
    assert (tmp_path / "out" / encoder / "tuned.png").is_file()
