"""Which files belong together, and what is said of those that have no partner."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from samseg.data.dataset import read_pair
from samseg.data.sources.folders import FolderSource
from samseg.data.target import class_target
from samseg.errors import InputError
from tests.data.sources.contract import SourceContract


def test_pairs_are_found_by_stem_whatever_the_suffix(data):
    train = Path(data.root) / "train"
    image = Image.open(train / "images/train1.png").copy()
    (train / "images/train1.png").unlink()
    image.save(train / "images/train1.JPG")
    for junk in ("images/.DS_Store", "images/Thumbs.db", "masks/train1.png.aux.xml", "masks/._train1.png"):
        (train / junk).touch()
    source = FolderSource(data.root, "train")
    assert source.names == ["train0", "train1", "train2"]
    assert source.image_file("train1").name == "train1.JPG" and source.describe_label("train1").endswith("/train1.png")


def test_partners_that_are_missing_are_told_of_each(data):
    train = Path(data.root) / "train"
    (train / "masks/train1.png").unlink()
    for number in range(2):
        (train / f"masks/more{number}.png").touch()
    source = FolderSource(data.root, "train")
    assert source.names == ["train0", "train2"] and list(source.wrong) == ["train1", "more0", "more1"]
    assert "images/train1.png is without mask: every image in images/ needs" in str(source.wrong["train1"])
    assert "masks/more1.png is without image: every mask in masks/ needs" in str(source.wrong["more1"])


def test_folders_that_are_missing_or_empty(data):
    root = Path(data.root)
    with pytest.raises(
        InputError, match="no such folder: .*nowhere/train/images; data.root needs train/, val/ and test/"
    ):
        FolderSource(root / "nowhere", "train")
    shutil.rmtree(root / "val/masks")
    with pytest.raises(InputError, match="no such folder: .*val/masks"):
        FolderSource(root, "val")
    for path in (root / "test").glob("*/*.png"):
        path.unlink()
    with pytest.raises(InputError, match="test/images holds no images; they must be PNG, TIFF or JPEG"):
        FolderSource(root, "test")


def test_two_files_of_one_stem(data):
    images = Path(data.root) / "train/images"
    shutil.copy(images / "train0.png", images / "train0.tif")
    with pytest.raises(InputError, match="train0.png and train0.tif: two files of one stem"):
        FolderSource(data.root, "train")


def test_sizes_must_agree_once_upright(data):
    source = FolderSource(data.root, "train")
    target, path = class_target(data, source), source.image_file("train0")
    image, mask = Image.open(path).copy(), path.parents[1] / "masks" / path.name
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(path, exif=exif)
    with pytest.raises(InputError, match=r"masks/train0.png is 64 x 40 pixels, but .*images/train0.png is 40 x 64"):
        read_pair(source, target, "train0")
    Image.open(mask).transpose(Image.Transpose.ROTATE_270).save(mask)
    upright, label = read_pair(source, target, "train0")
    assert upright.pixels.shape == (3, 64, 40) and label.shape == (64, 40)
    assert np.array_equal(np.moveaxis(upright.pixels, 0, -1), np.rot90(np.array(image), -1))


class TestFolders(SourceContract):
    @pytest.fixture
    def source(self, data, root) -> FolderSource:
        return FolderSource(data.root, "train")

    @pytest.fixture
    def root(self, data) -> Path:
        return Path(data.root)


class TestDeepImages(SourceContract):
    """Four bands of floating point with a NaN, 16 bits with nodata, and numbered objects beside them."""

    @pytest.fixture
    def root(self, tmp_path) -> Path:
        rng = np.random.default_rng(0)
        folder = tmp_path / "train"
        for kind in ("images", "masks", "instances"):
            (folder / kind).mkdir(parents=True)
        for name, dtype in (("a", "float32"), ("b", "uint16")):
            pixels = (rng.random((33, 41, 4)) * 5000).astype(dtype)
            pixels[4:7, 5:9] = np.nan if dtype == "float32" else 7
            tags = [(42113, "s", 0, "7", False)] if dtype == "uint16" else []
            layout = {"photometric": "minisblack", "planarconfig": "contig"}
            tifffile.imwrite(folder / "images" / f"{name}.tif", pixels, extratags=tags, **layout)
            Image.fromarray(rng.integers(0, 2, (33, 41), dtype=np.uint8)).save(folder / "masks" / f"{name}.png")
            objects = rng.integers(0, 600, (33, 41)).astype(np.uint16)
            Image.fromarray(objects if name == "a" else (objects % 200).astype(np.uint8)).save(
                folder / "instances" / f"{name}.png"
            )
        return tmp_path

    @pytest.fixture
    def source(self, root) -> FolderSource:
        source = FolderSource(root, "train")
        assert source.instances("a").max() > 255 and source.image("b").valid.sum() == 33 * 41 - 12
        return source


class TestObjectsAlone(SourceContract):
    """Numbered objects without masks: what is an object is of class 1."""

    @pytest.fixture
    def root(self, tmp_path) -> Path:
        rng = np.random.default_rng(0)
        for kind in ("images", "instances"):
            (tmp_path / "train" / kind).mkdir(parents=True)
        for name in "ab":
            image = rng.integers(0, 256, (33, 41, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "train" / "images" / f"{name}.png")
            objects = rng.integers(0, 3, (33, 41)).astype(np.uint16) * 256  # whose low bytes are 0
            Image.fromarray(objects).save(tmp_path / "train" / "instances" / f"{name}.png")
        return tmp_path

    @pytest.fixture
    def source(self, root) -> FolderSource:
        return FolderSource(root, "train")

    def test_the_label_is_where_objects_are(self, source):
        there = (source.instances("a") > 0).astype(np.uint8)
        assert set(np.unique(source.instances("a"))) == {0, 256, 512}
        assert np.array_equal(source.label("a"), there)
        assert np.array_equal(source.label("a", colours=True), np.dstack([there] * 3))

    def test_partners_that_are_missing_are_told_of_each(self, root):
        (root / "train/instances/b.png").rename(root / "train/instances/c.png")
        source = FolderSource(root, "train")
        assert source.names == ["a"] and list(source.wrong) == ["b", "c"]
        assert "images/b.png is without instance: every image in images/ needs" in str(source.wrong["b"])
        assert "instances/c.png is without image: every instance in instances/ needs" in str(source.wrong["c"])


def test_objects_need_every_image_and_no_colours(data):
    folder = Path(data.root) / "train"
    assert FolderSource(data.root, "train").instances("train0") is None
    (folder / "instances").mkdir()
    assert "train0.png is without instance: every image" in str(FolderSource(data.root, "train").wrong["train0"])
    for name in ("train0", "train1", "train2"):
        shutil.copy(folder / "images" / f"{name}.png", folder / "instances")
    with pytest.raises(InputError, match="instances/train0.png has colours"):
        FolderSource(data.root, "train").instances("train0")
