"""The pictures of semantic segmentation."""

import pytest
import torch
from PIL import Image
from torch import nn

from samseg.predict.draw import palette
from samseg.runs.config.load import load_config, task_of
from samseg.tasks.pictures import spread


class Everything(nn.Module):
    """Predicts class 2 everywhere."""

    def forward(self, x):
        return torch.eye(3)[2].reshape(1, 3, 1, 1).expand(len(x), 3, *x.shape[2:])


def test_predictions_are_drawn_beside_truth_in_the_classes_colours(tiny_config):
    task = task_of(load_config(tiny_config))
    picture = task.picture(Everything(), task.dataset("train", train=False, seed=0))
    found = {colour: count for count, colour in Image.fromarray(picture).getcolors(picture.size)}
    ground, green, blue = palette(3)
    assert found[ground] > found[green] > 1000  # in the truth only
    assert found[blue] > found[ground]  # the whole of the prediction
    assert found[128, 128, 128] > 1000  # the ignored rows


@pytest.mark.parametrize("items, shown", [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (31, [0, 10, 20, 30])])
def test_pictures_are_spread_over_the_split(items, shown):
    assert spread(items) == shown


def test_a_split_of_one_image_is_drawn(tiny_config, scenes):
    task = task_of(load_config(tiny_config))
    dataset = task.dataset("val", train=False, seed=0)
    assert task.picture(Everything(), torch.utils.data.Subset(dataset, [0])).shape[0] > 300
