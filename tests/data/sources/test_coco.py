"""COCO's annotations: what is drawn of polygons, RLE and crowds, what lies on top, and what is said of bad ones."""

import json
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
from PIL import Image

from samseg.common.errors import ConfigError, InputError
from samseg.data.check import check_dataset
from samseg.data.config import open_source
from samseg.data.sources.coco import CocoConfig, CocoSource
from samseg.data.sources.folders import FoldersConfig, FolderSource
from tests.conftest import SHARED
from tests.data.sources.contract import SourceContract, config

HEIGHT, WIDTH = 20, 30


def box(top: int, left: int, bottom: int, right: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def counts(mask: np.ndarray) -> list[int]:
    """Uncompressed RLE: lengths of runs of 0, 1, 0 ... down the columns."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return runs if runs[-1] or flat[-1] == 0 else runs[:-1]


def region(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def annotation(number: int, category: int, segmentation, image: int = 1, **more) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


SMALL, LARGE = region(5, 6, 9, 12), region(2, 2, 15, 20)
ANNOTATIONS = [
    annotation(1, 7, [box(5, 6, 9, 12)]),  # a cell ...
    annotation(2, 4, {"size": [HEIGHT, WIDTH], "counts": counts(LARGE)}),  # ... on a plate that comes after it
    annotation(3, 7, [box(0, 22, 4, 26), box(0, 27, 4, 29)]),  # of two parts
    annotation(4, 7, {"size": [HEIGHT, WIDTH], "counts": counts(region(0, 0, 18, 30))}, iscrowd=1),
]


@pytest.fixture
def root(tmp_path) -> Path:
    write(tmp_path, ANNOTATIONS)
    return tmp_path


def write(root: Path, annotations: list[dict], split: str = "train", **changes) -> None:
    folder = root / split / "images"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / name)
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for number, name in ((1, "a.png"), (2, "b.png"))
    ]
    categories = [{"id": 7, "name": "cell"}, {"id": 4, "name": "plate"}]
    content = {"images": images, "categories": categories, "annotations": annotations} | changes
    (root / split / "annotations.json").write_text(json.dumps(content))


class TestCoco(SourceContract):
    @pytest.fixture
    def source(self, root) -> CocoSource:
        return CocoSource(root, "train", CocoConfig())


class TestNestedFolders(SourceContract):
    """As COCO lays its own files out, with images in folders."""

    @pytest.fixture
    def source(self, root) -> CocoSource:
        folder = root / "train" / "images"
        (folder / "night").mkdir()
        (folder / "b.png").rename(folder / "night" / "a.png")
        images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "night/a.png"}]
        content = json.loads((root / "train" / "annotations.json").read_text()) | {"images": images}
        (root / "annotations_train.json").write_text(json.dumps(content))
        source = CocoSource(root, "train", CocoConfig(annotations="annotations_{split}.json"))
        assert source.names == ["a", "night/a"]
        return source

    def test_its_images_are_found_without_labels(self):
        """Folders inside the folder are not searched."""


def test_the_smaller_object_lies_on_top_and_crowds_below(root):
    source = CocoSource(root, "train", CocoConfig())
    expected = region(0, 0, 18, 30).astype(int)  # the crowd, of cells
    expected[LARGE > 0] = 2
    expected[SMALL > 0] = 1
    expected[0:4, 22:26] = expected[0:4, 27:29] = 1
    assert np.array_equal(source.label("a"), expected)
    objects = np.where(LARGE, 2, 0)
    objects[SMALL > 0] = 1
    objects[0:4, 22:26] = objects[0:4, 27:29] = 3
    assert np.array_equal(source.instances("a"), objects)
    assert not source.label("b").any() and not source.instances("b").any()
    assert source.categories == {"cell": 3, "plate": 1}


def test_of_two_of_the_same_size_the_later_lies_on_top(tmp_path):
    write(tmp_path, [annotation(1, 7, [box(2, 2, 8, 8)]), annotation(2, 4, [box(5, 5, 11, 11)])])
    label = CocoSource(tmp_path, "train", CocoConfig()).label("a")
    assert label[3, 3] == 1 and label[6, 6] == 2


def test_categories_become_classes_by_name(root):
    write(root, [annotation(1, 4, [box(0, 0, 10, 30)])], "val")
    report = check_dataset(config("coco", root), ["train", "val"])
    assert report.class_pixels("val") == [2 * HEIGHT * WIDTH - 300, 0, 300]
    assert "train: 1 image (b) without annotations counts as background" in report.warnings
    data = config("coco", root, classes={"nothing": None, "thing": ["cell", "plate"]})
    assert check_dataset(data, ["val"]).class_pixels("val") == [2 * HEIGHT * WIDTH - 300, 300]
    data = config("coco", root, classes={"plate": "plate"}, ignore=[None, "cell"])
    report = check_dataset(data, ["val"])
    assert report.class_pixels("val") == [300] and report.splits["val"].ignored == 2 * HEIGHT * WIDTH - 300


@pytest.mark.parametrize(
    "classes, ignore, message",
    [
        ({"a": "cell"}, [], "no class for where there is no object: write it as null"),
        ({"a": None, "b": 1}, [], "data.classes.b must be a category's name, null"),
        ({"a": None, "b": "cell", "c": ["cell"]}, [], "data.classes.c claims cell as data.classes.b does"),
        ({"a": None, "b": "cell"}, [None], "data.ignore claims null as data.classes.a does"),
        ({}, [], "data.classes is empty"),
    ],
)
def test_classes_that_cannot_be(tmp_path, classes, ignore, message):
    from samseg.data.target import check_classes

    with pytest.raises(ConfigError, match=message):
        check_classes(config("coco", tmp_path, classes=classes, ignore=ignore))


def test_a_category_that_is_not_listed_is_named_with_its_count(root):
    with pytest.raises(
        InputError, match=r"^train has category cell \(3 objects\), not declared .declared: null, plate"
    ):
        check_dataset(config("coco", root, classes={"a": None, "b": "plate"}), ["train"])


POLYGON = [box(0, 0, 3, 3)]


def rle(counts) -> dict:
    return {"size": [HEIGHT, WIDTH], "counts": counts}


def compressed(mask: np.ndarray) -> str:
    return pycocotools.mask.encode(np.asfortranarray(mask))["counts"].decode()


@pytest.mark.parametrize(
    "annotations, message",
    [
        ([annotation(5, 7, POLYGON, image=9)], "annotation 5 is of image 9, which it does not list"),
        ([annotation(5, 3, POLYGON)], "annotation 5 is of category 3, which it does not list"),
        ([annotation(5, 7, [])], r"annotations.json \(a.png\): annotation 5 has no polygon of three points"),
        ([annotation(5, 7, [[1, 2, 3, 4]])], "annotation 5 has no polygon of three points"),
        ([annotation(5, 7, "xy")], "annotation 5 has no polygon"),
        ([annotation(5, 7, {"size": [3, 3], "counts": [0, 9]})], r"is an RLE of size \[3, 3\], but the image is"),
        ([annotation(5, 7, {"counts": [0, 9]})], "is an RLE of size None, but the image is"),
        ([annotation(5, 7, rle([100, 50]))], "is an RLE of 150 pixels, but its size says 20 x 30 = 600"),
        ([annotation(5, 7, rle([0, 600, 1]))], "is an RLE of 601 pixels"),
        ([annotation(5, 7, rle([601, -1]))], "an RLE's counts are whole numbers from 0"),
        ([annotation(5, 7, rle([300.0, 300.0]))], "an RLE's counts are whole numbers from 0"),
        ([annotation(5, 7, rle([2**70]))], "an RLE's counts are whole numbers from 0"),
        ([annotation(5, 7, rle(compressed(np.ones((4, 5), np.uint8))))], "is an RLE of 20 pixels, but"),
        ([annotation(5, 7, rle("é"))], "an RLE's counts are whole numbers from 0, or those as COCO's text"),
        ([annotation(5, 7, rle("`"))], "an RLE's counts are whole numbers from 0, or those as COCO's text"),
        ([annotation(5, 7, rle(None))], "an RLE's counts are whole numbers from 0"),
        ([annotation(5, 7, [[1, 2, 8, 2, 8]])], "has no polygon of three points"),
        ([annotation(5, 7, [[1, 2, 8, 2, 8, 9, 4]])], "a polygon is a list of numbers"),
        ([annotation(5, 7, [[[1, 2], [8, 2], [8, 9]] * 2])], "a polygon is a list of numbers"),
        ([annotation(5, 7, [[1, 2, 8, 2, 8, "9"]])], "a polygon is a list of numbers"),
        ([annotation(5, 7, [[1, 2, 8, 2, 8, None]])], "a polygon is a list of numbers"),
        (
            [annotation(5, 7, [[1, 2, 8, 2, 8, float("nan")]])],
            r"has the point \(8, nan\), far outside of its image of 30",
        ),
        ([annotation(5, 7, [[1, 2, 1e9, 2, 8, 9]])], r"has the point \(1e\+09, 2\), far outside of its image"),
        ([annotation(5, 7, [[1, 2, -1e400, 2, 8, 9]])], r"has the point \(-inf, 2\), far outside of its image"),
        ([annotation(5, 7, [[0.1, 0.2, 0.7, 0.2, 0.7, 0.9]])], "has coordinates from 0 to 1 alone, and COCO's are pix"),
        ([annotation(5, 7, POLYGON, iscrowd="0")], 'annotation 5 has iscrowd "0"; write 1 for a crowd, else 0'),
        ([annotation(5, 7, POLYGON, image="1")], 'of image "1", which it does not list; it lists 1: write both as'),
        ([annotation(5, [7], POLYGON)], r"annotation 5 is of category \[7\], which it does not list"),
        ([{"id": 5, "image_id": 1}], "an entry of annotations has no category_id"),
    ],
)
def test_annotations_that_cannot_be_are_one_line(tmp_path, annotations, message):
    write(tmp_path, annotations)
    with pytest.raises(InputError, match=message) as error:
        check_dataset(config("coco", tmp_path), ["train"])
    assert "\n" not in str(error.value)


def test_compressed_rle_is_the_mask_that_it_was_made_of(tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.random((HEIGHT, WIDTH)) < share for share in (0, 0.02, 0.5, 0.98, 1)]
    for mask in masks:
        write(tmp_path, [annotation(5, 7, rle(compressed(mask.astype(np.uint8))))])
        assert np.array_equal(CocoSource(tmp_path, "train", CocoConfig()).label("a"), mask)
    from samseg.data.formats.coco_rle import as_rle

    wide = np.zeros((1500, 2000), np.uint8)  # run lengths of several letters, and negative differences
    wide[40:1400, 3:1000] = 1
    wide[200:300, 1500:1600] = 1
    segmentation = {"size": [1500, 2000], "counts": compressed(wide)}
    assert as_rle(segmentation, (1500, 2000), "") == segmentation
    with pytest.raises(InputError, match="is an RLE of 3000000 pixels, but its size says 1501 x 2000"):
        as_rle({"size": [1501, 2000], "counts": compressed(wide)}, (1501, 2000), "")


def test_objects_of_which_nothing_is_drawn_are_counted_and_named(tmp_path):
    outside, stray, empty = [box(5, 40, 9, 45)], [box(2, 2, 5, 5), [48, 32]], {"size": [HEIGHT, WIDTH], "counts": [600]}
    segmentations = [outside, stray, empty, [box(30, 1, 39, 9)]]
    write(tmp_path, [annotation(number, 7, one) for number, one in enumerate(segmentations, start=1)])
    report = check_dataset(config("coco", tmp_path), ["train"])
    assert report.class_pixels("train")[1] == 9
    assert (
        "train: 3 objects (annotation 1 of a.png, annotation 3 of a.png, annotation 4 of a.png) of which no pixel "
        "lies in the image, so nothing is drawn" in report.warnings
    )
    assert "train: 1 object (annotation 2 of a.png) with stray parts of fewer than three points" in str(report)


@pytest.mark.parametrize(
    "size, message",
    [
        ({"width": None, "height": None}, None),
        ({"width": 30.0, "height": 20.0}, None),
        ({"width": "30", "height": "20"}, r'image 1 \(a.png\) has height "20"; write the image\'s, a number of pixels'),
        ({"width": 0, "height": 0}, r"image 1 \(a.png\) has height 0; write the image's"),
        ({"width": 30.5, "height": 20}, r"image 1 \(a.png\) has width 30.5"),
        ({"width": float("inf"), "height": 20}, r"image 1 \(a.png\) has width Infinity"),
        ({"id": [1]}, r"an entry of images has the id \[1\]; write a number"),
        ({"file_name": 1}, "image 1 has the file_name 1, no text"),
    ],
)
def test_images_are_listed_with_whole_sides_or_none(tmp_path, size, message):
    image = {"id": 1, "file_name": "a.png"} | size
    write(tmp_path, [annotation(5, 7, POLYGON)], images=[image])
    if message is None:
        assert CocoSource(tmp_path, "train", CocoConfig()).label("a").sum() == 9
        return
    with pytest.raises(InputError, match=message) as error:
        CocoSource(tmp_path, "train", CocoConfig())
    assert "\n" not in str(error.value)


def test_categories_have_names_and_ids_of_their_own(tmp_path):
    write(tmp_path, [annotation(5, 7, POLYGON)], categories=[{"id": 7, "name": 12}])
    assert CocoSource(tmp_path, "train", CocoConfig()).categories == {"12": 1}
    write(tmp_path, [], categories=[{"id": 7, "name": "a"}, {"id": 7, "name": "b"}])
    with pytest.raises(InputError, match="lists two categories of one id"):
        CocoSource(tmp_path, "train", CocoConfig())
    write(tmp_path, [], categories=[{"id": 7, "name": None}])
    with pytest.raises(InputError, match="category 7 has the name null; names are text"):
        CocoSource(tmp_path, "train", CocoConfig())


def test_files_that_are_missing_or_no_coco(root):
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}]
    write(root, [], images=images)
    with pytest.raises(InputError, match=r"lists 1 image \(gone.png\) not in .*train/images"):
        CocoSource(root, "train", CocoConfig())
    write(root, [], images=images[:1])
    note = CocoSource(root, "train", CocoConfig()).notes[-1]
    assert note.startswith("train: 1 images in the folder are not in annotations.json")
    write(root, [], images=[images[0] | {"width": 31, "height": HEIGHT}])
    with pytest.raises(InputError, match=r"annotations.json \(a.png\) is 31 x 20 pixels, but .*a.png is 30 x 20"):
        check_dataset(config("coco", root), ["train"])
    write(root, [], images=[images[0], images[0] | {"id": 2}])
    with pytest.raises(InputError, match="two images of one name or id: a"):
        CocoSource(root, "train", CocoConfig())
    write(root, [], categories={})
    with pytest.raises(InputError, match="holds no list of categories"):
        CocoSource(root, "train", CocoConfig())
    (root / "train" / "annotations.json").write_text("{")
    with pytest.raises(InputError, match="annotations.json cannot be read as JSON"):
        CocoSource(root, "train", CocoConfig())
    (root / "train" / "annotations.json").unlink()
    with pytest.raises(InputError, match="no such file: .*annotations.json; data.coco.annotations"):
        CocoSource(root, "train", CocoConfig())
    with pytest.raises(InputError, match="no such folder: .*val/images"):
        CocoSource(root, "val", CocoConfig())


def test_its_keys_belong_to_it():
    with pytest.raises(ConfigError, match=r"data.coco.annotations must hold \{split\}"):
        config("coco", Path("x"), coco=CocoConfig(annotations="result.json"))
    with pytest.raises(ConfigError, match="data.coco is for data.source=coco, but data.source is folders"):
        config("folders", Path("x"), coco=CocoConfig(images="{split}2017"))
    with pytest.raises(
        ConfigError, match="data.source must be one of folders, coco, .*got 'cocoa'; did you mean 'coco'"
    ):
        config("cocoa", Path("x"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real images here")
def test_nuclei_are_the_same_from_folders_and_from_annotations():
    for split in ("val", "test"):
        coco = open_source(config("coco", SHARED / "nuclei"), split)
        folders = FolderSource(SHARED / "nuclei", split, FoldersConfig())
        assert coco.names == folders.names
        for name in coco.names:
            assert np.array_equal(coco.label(name) > 0, folders.label(name) == 255)
            pairs = np.unique(np.stack([coco.instances(name), folders.instances(name)]).reshape(2, -1), axis=1)
            assert all(len(set(numbers)) == len(numbers) for numbers in pairs.tolist())  # one to one
