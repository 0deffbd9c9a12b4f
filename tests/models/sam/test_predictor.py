"""Masks for prompts: segment-anything's answers with its conventions, several objects and several images at once."""

import numpy as np
import pytest
import segment_anything
import torch

import samseg
from samseg.common.errors import InputError
from samseg.models.sam import contract
from samseg.models.sam.files import empty_sam
from tests.encoders.conftest import SMALL
from tests.models.sam.reference import assert_same_answers, picture, predictions, randomised

BOXES = np.array([[20, 10, 80, 70], [5, 5, 60, 40], [40, 30, 110, 85]])


@pytest.fixture(scope="module", params=[False, True], ids=["sam", "sam-hq"])
def sam(request):
    torch.manual_seed(0)
    return randomised(empty_sam(SMALL, 128, hq=request.param))


def test_it_answers_as_segment_anythings(sam):
    expected = predictions(segment_anything.SamPredictor(sam), picture())
    assert_same_answers(predictions(samseg.SamPredictor(sam), picture()), expected)
    masks, _, _ = samseg_answer(sam, box=BOXES[0])
    assert masks.dtype == bool and masks.shape[1:] == (90, 120)


def samseg_answer(sam, **prompt):
    predictor = samseg.SamPredictor(sam)
    predictor.set_image(picture())
    return predictor.predict(**prompt)


def test_several_objects_are_each_answered_and_decoded_a_few_at_a_time(sam, monkeypatch):
    points = BOXES[:, None, :2] + 15
    labels = np.ones((3, 1))
    together = samseg_answer(sam, box=BOXES, point_coords=points, point_labels=labels, return_logits=True)
    for index, box in enumerate(BOXES):
        alone = samseg_answer(sam, box=box, point_coords=points[index], point_labels=labels[index], return_logits=True)
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[index], theirs, atol=1e-4)
    monkeypatch.setattr(contract, "TOKENS_AT_ONCE", 2 * 64)
    counts, decode = [], sam.decode

    def spy(features, points, boxes, *others):
        counts.append(len(boxes))
        return decode(features, points, boxes, *others)

    monkeypatch.setattr(sam, "decode", spy)
    apart = samseg_answer(sam, box=BOXES, point_coords=points, point_labels=labels, return_logits=True)
    assert counts == [2, 1]
    for ours, theirs in zip(apart, together, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_several_images_of_several_sizes(sam):
    images = [picture(), picture(120, 60)]
    predictor = samseg.SamPredictor(sam)
    predictor.set_images(images)
    for index, image in enumerate(images):
        ours = predictor.predict(box=BOXES[1], image=index, return_logits=True)
        predictor_of_one = samseg.SamPredictor(sam)
        predictor_of_one.set_image(image)
        for one, other in zip(ours, predictor_of_one.predict(box=BOXES[1], return_logits=True), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_cannot_be_answered_is_one_line(sam):
    predictor = samseg.SamPredictor(sam)
    with pytest.raises(InputError, match="call set_image first"):
        predictor.predict(box=BOXES[0])
    with pytest.raises(InputError, match=r"the image must be an RGB array .* got \(90, 120\)"):
        predictor.set_image(picture()[..., 0])
    predictor.set_image(picture())
    with pytest.raises(InputError, match="belong together"):
        predictor.predict(point_coords=np.array([[1, 2]]))
    one = {"point_coords": [[1, 2]], "point_labels": [1]}
    for given, said in (
        ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords must be .* \(N, 2\) or \(K, N, 2\), got \(2,\)"),
        (one | {"point_labels": [1, 0]}, r"point_labels must be numbers of shape \(1\), got \(2,\)"),
        ({"point_coords": "a cat", "point_labels": [1]}, "point_coords must be numbers .*, got 'a cat'"),
        ({"box": [1, 2, 3]}, r"box must be numbers of shape \(4\) or \(K, 4\), got \(3,\)"),
        ({"mask_input": np.zeros((1, 7, 7))}, r"mask_input must be .* \(1, 32, 32\) or .* got \(1, 7, 7\)"),
        (one | {"box": BOXES}, "prompts are of 1 and 3 objects"),
    ):
        with pytest.raises(InputError, match=said) as error:
            predictor.predict(**given)
        assert "\n" not in str(error.value)
    listed = predictor.predict(box=BOXES.tolist(), return_logits=True)[0]  # as an array
    assert np.array_equal(listed, predictor.predict(box=BOXES, return_logits=True)[0])
