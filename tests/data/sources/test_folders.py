"""Which files belong together, and what is said of those that have no partner."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from samseg.common.errors import ConfigError, InputError
from samseg.data.dataset import read_pair
from samseg.data.sources.folders import FoldersConfig, FolderSource
from samseg.data.target import class_target
from tests.data.sources.contract import SourceContract


def test_pairs_are_found_by_stem_whatever_the_suffix(data):
    train = Path(data.root) / "train"
    image = Image.open(train / "images/train1.png").copy()
    (train / "images/train1.png").unlink()
    image.save(train / "images/train1.JPG")
    for junk in ("images/.DS_Store", "images/Thumbs.db", "masks/train1.png.aux.xml", "masks/._train1.png"):
        (train / junk).touch()
    source = FolderSource(data.root, "train", FoldersConfig())
    assert source.names == ["train0", "train1", "train2"]
    assert source.image_file("train1").name == "train1.JPG" and source.describe_label("train1").endswith("/train1.png")


def test_partners_that_are_missing_are_told_of_each(data):
    train = Path(data.root) / "train"
    (train / "masks/train1.png").unlink()
    for number in range(2):
        (train / f"masks/more{number}.png").touch()
    source = FolderSource(data.root, "train", FoldersConfig())
    assert source.names == ["train0", "train2"] and list(source.wrong) == ["train1", "more0", "more1"]
    assert "images/train1.png is without mask: every image in images/ needs a file masks/train1.*" in str(
        source.wrong["train1"]
    )
    assert "masks/more1.png is without image: every mask in masks/ needs" in str(source.wrong["more1"])


def test_folders_that_are_missing_or_empty(data):
    root = Path(data.root)
    with pytest.raises(
        InputError, match="no such folder: .*nowhere/train/images; data.root needs train/, val/ and test/"
    ):
        FolderSource(root / "nowhere", "train", FoldersConfig())
    shutil.rmtree(root / "val/masks")
    with pytest.raises(InputError, match="no such folder: .*val/masks"):
        FolderSource(root, "val", FoldersConfig())
    for path in (root / "test").glob("*/*.png"):
        path.unlink()
    with pytest.raises(InputError, match="test/images holds no images; they must be PNG, TIFF or JPEG"):
        FolderSource(root, "test", FoldersConfig())


def test_two_files_of_one_stem(data):
    images = Path(data.root) / "train/images"
    shutil.copy(images / "train0.png", images / "train0.tif")
    with pytest.raises(InputError, match="train0.png and train0.tif: two files of one stem"):
        FolderSource(data.root, "train", FoldersConfig())


def test_sizes_must_agree_once_upright(data):
    source = FolderSource(data.root, "train", FoldersConfig())
    target, path = class_target(data, source), source.image_file("train0")
    image, mask = Image.open(path).copy(), path.parents[1] / "masks" / path.name
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(path, exif=exif)
    with pytest.raises(InputError, match=r"masks/train0.png is 64 x 40 pixels, but .*images/train0.png is 40 x 64"):
        read_pair(source, target, "train0")
    Image.open(mask).transpose(Image.Transpose.ROTATE_270).save(mask)
    upright, maps = read_pair(source, target, "train0")
    assert upright.pixels.shape == (3, 64, 40) and maps["classes"].shape == (64, 40)
    assert np.array_equal(np.moveaxis(upright.pixels, 0, -1), np.rot90(np.array(image), -1))


class TestFolders(SourceContract):
    @pytest.fixture
    def source(self, data, root) -> FolderSource:
        return FolderSource(data.root, "train", FoldersConfig())

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
        source = FolderSource(root, "train", FoldersConfig())
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
        return FolderSource(root, "train", FoldersConfig())

    def test_the_label_is_where_objects_are(self, source):
        there = (source.instances("a") > 0).astype(np.uint8)
        assert set(np.unique(source.instances("a"))) == {0, 256, 512}
        assert np.array_equal(source.label("a"), there)
        assert np.array_equal(source.label("a", colours=True), np.dstack([there] * 3))

    def test_partners_that_are_missing_are_told_of_each(self, root):
        (root / "train/instances/b.png").rename(root / "train/instances/c.png")
        source = FolderSource(root, "train", FoldersConfig())
        assert source.names == ["a"] and list(source.wrong) == ["b", "c"]
        assert "images/b.png is without instance: every image in images/ needs" in str(source.wrong["b"])
        assert "instances/c.png is without image: every instance in instances/ needs" in str(source.wrong["c"])


def test_objects_need_every_image_and_no_colours(data):
    folder = Path(data.root) / "train"
    assert FolderSource(data.root, "train", FoldersConfig()).instances("train0") is None
    (folder / "instances").mkdir()
    wrong = FolderSource(data.root, "train", FoldersConfig()).wrong
    assert "train0.png is without instance: every image" in str(wrong["train0"])
    for name in ("train0", "train1", "train2"):
        shutil.copy(folder / "images" / f"{name}.png", folder / "instances")
    with pytest.raises(InputError, match="instances/train0.png has colours"):
        FolderSource(data.root, "train", FoldersConfig()).instances("train0")


def write(root: Path, **files: np.ndarray) -> Path:
    for name, array in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array) if path.suffix == ".npy" else Image.fromarray(array).save(path)
    return root


RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 4, (32, 48), dtype=np.uint8)


def test_files_may_be_called_as_patterns_say(tmp_path):
    for city, number in (("aachen", 1), ("aachen", 2), ("bonn", 1)):
        stem = f"{city}/{number:06d}"
        write(tmp_path, **{f"left/train/{stem}_left.png": PHOTO, f"gt/train/{stem}_gt_ids.png": LABEL})
        write(tmp_path, **{f"gt/train/{stem}_gt_colour.png": PHOTO})
    settings = FoldersConfig("left/{split}/**/{name}_left.png", "gt/{split}/**/{name}_gt_ids.png")
    source = FolderSource(tmp_path, "train", settings)
    assert source.names == ["aachen/000001", "aachen/000002", "bonn/000001"] and not source.wrong
    assert np.array_equal(source.label("bonn/000001"), LABEL)
    assert source.describe_label("bonn/000001").endswith("gt/train/bonn/000001_gt_ids.png")
    with pytest.raises(InputError, match="left holds .*: two files of one stem|holds no images"):
        FolderSource(tmp_path, "train", FoldersConfig("left/{split}/{name}", "gt/{split}/{name}"))


def test_masks_beside_their_images_are_no_images(tmp_path):
    write(tmp_path / "val", **{"a.b [1].png": PHOTO, "a.b [1]_mask.BMP": LABEL, "c.png": PHOTO, "c_mask.npy": LABEL})
    write(tmp_path / "val", **{"d.png": PHOTO, "e_mask.png": LABEL})
    source = FolderSource(tmp_path, "val", FoldersConfig("{split}/{name}", "{split}/{name}_mask"))
    assert source.names == ["a.b [1]", "c"] and list(source.wrong) == ["e"]
    assert all(np.array_equal(source.label(name), LABEL) for name in source.names)
    assert source.notes == ["val: 1 image (d.png) without mask: left out"]
    assert "e_mask.png is without image: every mask in val/ needs a file e.*" in str(source.wrong["e"])
    assert [
        file.name
        for file in FolderSource.images(tmp_path, "val", FoldersConfig("{split}/{name}", "{split}/{name}_mask"))
    ] == ["a.b [1].png", "c.png", "d.png"]


def test_what_lies_beside_png_masks_is_not_taken_for_one(tmp_path):
    write(tmp_path / "train", **{"images/a.png": PHOTO, "masks/a.png": LABEL, "masks/a.npy": PHOTO / 7})
    write(tmp_path / "train", **{"masks/embedding.npy": PHOTO / 7, "images/b.png": PHOTO, "masks/b.bmp": LABEL})
    source = FolderSource(tmp_path, "train", FoldersConfig())
    assert source.names == ["a", "b"] and not source.wrong
    assert all(np.array_equal(source.label(name), LABEL) for name in "ab")


def test_a_list_names_what_is_used(tmp_path):
    for name in "abc":
        write(tmp_path, **{f"JPEGImages/{name}.png": PHOTO, f"SegmentationClass/{name}.png": LABEL})
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "valid.txt").write_text('a\n"b"\r\n\n')
    settings = FoldersConfig("JPEGImages/{name}", "SegmentationClass/{name}", names="lists/{split}.txt")
    assert FolderSource(tmp_path, "val", settings).names == ["a", "b"]
    with pytest.raises(InputError, match="no such file: .*lists/test.txt; data.folders.names"):
        FolderSource(tmp_path, "test", settings)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_the_same_however_they_are_composed(tmp_path, form):
    name, other = (unicodedata.normalize(one, "Zürich") for one in (form, {"NFC": "NFD", "NFD": "NFC"}[form]))
    write(tmp_path / "train", **{f"images/{name}.PNG": PHOTO, f"masks/{other}.png": LABEL})
    source = FolderSource(tmp_path, "train", FoldersConfig())
    assert source.names == [unicodedata.normalize("NFC", name)] and not source.wrong
    assert np.array_equal(source.label(source.names[0]), LABEL)


def test_splits_have_other_spellings(tmp_path):
    write(tmp_path / "valid", **{"images/a.png": PHOTO, "masks/a.png": LABEL})
    assert FolderSource(tmp_path, "val", FoldersConfig()).names == ["a"]
    write(tmp_path / "val", **{"images/b.png": PHOTO, "masks/b.png": LABEL})
    assert FolderSource(tmp_path, "val", FoldersConfig()).names == ["b"]


def test_objects_in_the_colours_of_pascal_voc_are_their_numbers(tmp_path):
    """Its own development kit's VOClabelcolormap, in Python."""
    numbers = (np.arange(32 * 48) % 700).reshape(32, 48)
    colours = np.zeros((32, 48, 3), np.uint8)
    for index in np.ndindex(numbers.shape):
        number = numbers[index]
        for shift in range(7, -1, -1):
            for channel in range(3):
                colours[index][channel] |= ((number >> channel) & 1) << shift
            number >>= 3
    write(tmp_path / "train", **{"images/a.png": PHOTO, "instances/a.png": colours})
    assert np.array_equal(FolderSource(tmp_path, "train", FoldersConfig()).instances("a"), numbers)


@pytest.mark.parametrize(
    "pattern", ["masks", "{split}/{name}/{name}", "{split}/*/{name}", "masks/{name}/a", "a_{split}_{name}"]
)
def test_a_pattern_is_a_folder_and_a_name(pattern):
    with pytest.raises(ConfigError, match="data.folders.masks must be a folder and what files in it are called"):
        FolderSource.complete(FoldersConfig(masks=pattern))
