import numpy as np
import pytest

from samseg.sample.scene import CLASSES, render_scene

BACKGROUND, ROAD, BUILDING, TREE = range(4)


@pytest.fixture(scope="module")
def scenes():
    """Eight scenes to learn from and four others, as images (n, S, S, 3) and classes (n, S, S); every kind of place."""
    rendered = [render_scene(seed, 288, 0.25) for seed in range(12)]
    images, classes = (np.stack(parts) for parts in zip(*rendered, strict=True))
    return (images[:8], classes[:8]), (images[8:], classes[8:])


def iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    pairs = [(predicted == k, truth == k) for k in range(4)]
    return np.array([(a & b).sum() / (a | b).sum() for a, b in pairs])


@pytest.mark.parametrize(
    "seed, size",
    [*((seed, size) for seed in range(4) for size in (1, 2, 67, 131))],
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
    assert iou(votes.argmax(axis=1)[colour(others)], truth).mean() < 0.65
