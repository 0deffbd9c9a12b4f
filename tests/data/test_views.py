"""The views of an image, and how they are drawn."""

from collections import Counter

import numpy as np
import pytest

from samseg.data.views import VIEWS, apply_view, drawn_view
from samseg.runs.config.load import load_config
from tests.data.conftest import dataset_of

PICTURE = np.arange(6).reshape(2, 3)


def test_the_eight_views_are_all_different_and_the_first_ones_make_groups():
    views = [apply_view(np.arange(9).reshape(3, 3), view) for view in range(len(VIEWS))]
    assert len({view.tobytes() for view in views}) == 8
    for count in (1, 2, 4, 8):  # a view of a view is one of the same views: nothing is seen more often than another
        known = {view.tobytes() for view in views[:count]}
        assert all(apply_view(view, other).tobytes() in known for view in views[:count] for other in range(count))


def test_views_as_they_are_described():
    assert apply_view(PICTURE, 1).tolist() == [[2, 1, 0], [5, 4, 3]]
    assert apply_view(PICTURE, 2).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert apply_view(PICTURE, 4).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert all(apply_view(PICTURE, view).flags.c_contiguous for view in range(8))


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_each_view_is_as_likely(views):
    drawn = Counter(drawn_view(views, 0, epoch, index) for epoch in range(20) for index in range(100))
    assert sorted(drawn) == list(range(views))
    assert min(drawn.values()) > 0.75 * 2000 / views
    assert [drawn_view(views, 3, 1, 5) for _ in range(3)] == 3 * [drawn_view(views, 3, 1, 5)]


def test_image_and_mask_are_turned_together(tiny_config):
    """The squares of the scenes are bright in the channel that is their label."""
    config = load_config(tiny_config, ["data.views=8"]).data
    dataset = dataset_of(config, "train", train=True, seed=0)
    plain = dataset_of(load_config(tiny_config).data, "train", train=True, seed=0)
    turned = 0
    for epoch in range(4):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):
            item = dataset[index]
            turned += not item["classes"].equal(plain[index]["classes"])
            for label in (1, 2):
                here = item["classes"] == label
                assert item["image"][label][here].mean() > item["image"][0][here].mean() + 0.5
    assert turned > 12
