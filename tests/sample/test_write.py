import os
import signal
from functools import partial

import numpy as np
import pytest
from PIL import Image

from samseg.common.errors import InputError
from samseg.sample.write import CLASSES, render_scene, write_sample
from tests.processes import start, wait_until

BACKGROUND, ROAD, BUILDING, TREE = range(4)


@pytest.fixture(scope="module")
def scenes():
    """Eight scenes to learn from and four others, as images (n, S, S, 3) and classes (n, S, S); every kind of place."""
    rendered = [render_scene(seed, 288) for seed in range(12)]
    images, classes = (np.stack(parts) for parts in zip(*rendered, strict=True))
    return (images[:8], classes[:8]), (images[8:], classes[8:])


def iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    pairs = [(predicted == k, truth == k) for k in range(4)]
    return np.array([(a & b).sum() / (a | b).sum() for a, b in pairs])


@pytest.mark.parametrize(
    "seed, size",
    [*((seed, size) for seed in range(4) for size in (1, 2, 67, 131)), (381, 64)],  # 381: a car park beyond the edge
)
def test_a_scene_has_the_size_asked_for_and_known_classes_only(seed, size):
    image, classes = render_scene(seed, size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert classes.shape == (size, size) and classes.dtype == np.uint8
    assert classes.max() < len(CLASSES) == 4


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_scene():
    image, classes = render_scene(7, 96)
    again_image, again_classes = render_scene(7, 96)
    assert np.array_equal(image, again_image) and np.array_equal(classes, again_classes)
    assert not np.array_equal(classes, render_scene(11, 96)[1])  # 7 and 11 are the same kind of place


def test_every_class_has_its_share(scenes):
    classes = np.concatenate([scenes[0][1], scenes[1][1]])
    share = np.bincount(classes.ravel(), minlength=4) / classes.size
    assert share[BACKGROUND] < 0.75
    assert share[ROAD] > 0.08 and share[BUILDING] > 0.08 and share[TREE] > 0.05


def test_classes_are_where_the_picture_shows_them(scenes):
    images, classes = scenes[0]
    red, green, blue = np.moveaxis(images.astype(float), -1, 0)
    chroma = images.max(axis=-1).astype(float) - images.min(axis=-1)
    brightness = images.mean(axis=-1)
    assert chroma[classes == ROAD].mean() < 0.6 * chroma[classes == TREE].mean()  # asphalt is grey
    assert brightness[classes == TREE].mean() < 0.8 * brightness[classes == BACKGROUND].mean()  # crowns are dark
    assert (green - blue)[classes == BACKGROUND].mean() > 15  # RGB, not BGR: soil and grass hold little blue
    assert (red - green)[classes == BUILDING].mean() > (red - green)[classes == TREE].mean() + 5


def test_class_borders_lie_on_edges_of_the_picture(scenes):
    images, classes = scenes[0]
    built = classes == BUILDING
    border = built[:, :, 1:] != built[:, :, :-1]
    step = np.abs(np.diff(images.astype(int), axis=2)).sum(axis=-1)

    def contrast(shift: int) -> float:
        return step[:, :, 8:-8][np.roll(border, shift, axis=2)[:, :, 8:-8]].mean()

    assert max(range(-5, 6), key=contrast) == 0
    assert contrast(0) > 1.5 * max(contrast(-4), contrast(4))


def test_colour_alone_does_not_tell_the_classes(scenes):
    (images, classes), (others, truth) = scenes

    def colour(images: np.ndarray) -> np.ndarray:
        red, green, blue = np.moveaxis(images.astype(int) // 8, -1, 0)
        return (red * 32 + green) * 32 + blue

    votes = np.zeros((32**3, 4), int)
    np.add.at(votes, (colour(images).ravel(), classes.ravel()), 1)
    assert iou(votes.argmax(axis=1)[colour(others)], truth).mean() < 0.55


def test_the_sample_is_laid_out_as_a_data_set(tmp_path):
    root = tmp_path / "data" / "sample"
    root.mkdir(parents=True)  # an empty folder is no obstacle
    write_sample(root, train=5, val=1, test=2, size=64)
    assert list(root.parent.iterdir()) == [root]
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    expected = [
        f"{split}/{folder}/scene_{index:03}.png"
        for split, count in (("test", 2), ("train", 5), ("val", 1))
        for folder in ("images", "masks")
        for index in range(count)
    ]
    assert found == expected
    for path in root.rglob("images/*.png"):
        with Image.open(path) as image, Image.open(path.parents[1] / "masks" / path.name) as mask:
            assert image.mode == "RGB" and image.size == (64, 64)
            assert mask.mode == "L" and mask.size == (64, 64) and mask.getextrema()[1] <= 3
    assert len({path.read_bytes() for path in root.rglob("images/*.png")}) == 8  # no scene twice


def test_the_files_hold_what_was_rendered(tmp_path):
    write_sample(tmp_path / "sample", train=2, val=0, test=0, size=64)
    image, classes = render_scene(1, 64)
    assert np.array_equal(np.array(Image.open(tmp_path / "sample/train/images/scene_001.png")), image)
    assert np.array_equal(np.array(Image.open(tmp_path / "sample/train/masks/scene_001.png")), classes)


def test_another_seed_makes_another_sample(tmp_path):
    for seed in (0, 1):
        write_sample(tmp_path / str(seed), train=1, val=1, test=0, size=64, seed=seed)
    for split in ("train", "val"):
        first, second = (tmp_path / str(seed) / split / "images/scene_000.png" for seed in (0, 1))
        assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_already_is_left_alone(tmp_path, kind):
    root = tmp_path / "sample"
    kept = root / "mine.txt" if kind == "folder" else root
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    with pytest.raises(InputError, match="sample exists and is not an empty folder") as caught:
        write_sample(root, train=1, val=0, test=0, size=32)
    assert "\n" not in str(caught.value)
    assert kept.read_text() == "mine" and len(list(tmp_path.rglob("*"))) == (2 if kind == "folder" else 1)


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_an_interrupted_run_leaves_nothing_behind(tmp_path):
    root = tmp_path / "sample"
    process = start(partial(write_sample, train=5000, size=64), root, folder=tmp_path.parent)
    try:
        wait_until(lambda: list(tmp_path.rglob("masks/*.png")), process)
        assert not root.exists()
        os.kill(process.pid, signal.SIGINT)
        process.join(60)
        assert process.exitcode == 1, "a KeyboardInterrupt that went through"
    finally:
        process.kill()
    assert list(tmp_path.iterdir()) == []
