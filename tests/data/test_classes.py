"""The map from mask values to class indices, against a loop over pixels."""

import copy
import pickle

import numpy as np
import pytest

from samseg.common.errors import ConfigError, InputError
from samseg.data.classes import IGNORE_INDEX, parse_classes

RNG = np.random.default_rng(0)


def by_loop(mask: np.ndarray, classes: list[list], ignore: list) -> np.ndarray:
    result = np.empty(mask.shape[:2], np.uint8)
    for place in np.ndindex(result.shape):
        value = mask[place].tolist()
        result[place] = next((i for i, values in enumerate(classes) if value in values), 255)
        assert result[place] < 255 or value in ignore
    return result


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (300, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbers(shape, dtype):
    top = 255 if dtype == np.uint8 else 65535
    lookup = parse_classes({"a": 7, "b": [0, 3], "c": top}, [4, 5])
    mask = RNG.choice(np.array([0, 3, 4, 5, 7, top], dtype), shape)
    got = lookup(mask, "m.png")
    assert lookup.names == ["a", "b", "c"] and not lookup.colours and got.dtype == np.uint8
    assert np.array_equal(got, by_loop(mask, [[7], [0, 3], [top]], [4, 5]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (300, 7), (513, 2)])
def test_colours(shape):
    lookup = parse_classes({"a": [1, 2, 3], "b": "#0a0B0c", "c": [[255, 255, 255], "#000000"]}, ["#010204"])
    colours = np.array([[1, 2, 3], [10, 11, 12], [255, 255, 255], [0, 0, 0], [1, 2, 4]], np.uint8)
    mask = colours[RNG.integers(0, 5, shape)]
    expected = by_loop(mask, [[[1, 2, 3]], [[10, 11, 12]], [[255] * 3, [0] * 3]], [[1, 2, 4]])
    assert lookup.colours and np.array_equal(lookup(mask, "m.png"), expected)


def test_255_classes_are_as_many_as_there_can_be():
    lookup = parse_classes({str(i): i for i in range(255)}, [255])
    values = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(lookup(values, "m.png"), values) and IGNORE_INDEX == 255
    with pytest.raises(ConfigError, match="names 256 classes; at most 255"):
        parse_classes({str(i): i for i in range(256)}, [])


def test_three_numbers_are_a_colour_only_if_everything_can_be_one():
    assert parse_classes({"a": [0, 1, 2], "b": [3, 4, 5]}, []).colours
    assert parse_classes({"a": [0, 1, 2], "b": [3, 4, 5]}, [6, 7, 8]).colours
    assert not parse_classes({"a": [0, 1, 2], "b": [3, 4, 5]}, [255]).colours
    assert not parse_classes({"a": [0, 1, 2], "b": 3}, []).colours


def test_undeclared_values_are_counted_and_named():
    lookup = parse_classes({"background": 0, "building": 255}, [])
    mask = np.zeros((4, 5), np.uint8)
    mask[1, :3], mask[2, 0] = 7, 9
    with pytest.raises(InputError) as raised:
        lookup(mask, "masks/a.png")
    text = str(raised.value)
    assert text.startswith("masks/a.png: mask values 7 (3 pixels), 9 (1 pixels) not declared (declared: 0, 255)")
    assert "data.classes or data.ignore" in text
    with pytest.raises(InputError, match=r"251 more not declared .*smoothing or JPEG"):
        parse_classes({"a": 256}, [])(np.arange(256, dtype=np.uint16)[None], "m")
    with pytest.raises(
        InputError, match=r"mask colour \[0, 0, 1\] \(2 pixels\) not declared \(declared: \[0, 0, 0\]\)"
    ):
        parse_classes({"a": [0, 0, 0]}, [])(np.array([[[0, 0, 0], [0, 0, 1], [0, 0, 1]]], np.uint8), "m.png")


def test_every_unknown_value_is_found_and_no_known_one():
    known = RNG.choice(2**16, 200, replace=False)
    lookup = parse_classes({f"c{i}": int(v) for i, v in enumerate(known)}, [])
    for value in range(0, 2**16, 37):
        mask = np.full((1, 1), value, np.uint16)
        if value in known:
            assert known[lookup(mask, "m")[0, 0]] == value
        else:
            with pytest.raises(InputError):
                lookup(mask, "m")


def test_a_colour_mask_for_numbers_is_explained():
    with pytest.raises(InputError, match="m.png is a colour mask, but data.classes declares numbers"):
        parse_classes({"a": 0}, [])(np.zeros((2, 2, 3), np.uint8), "m.png")


@pytest.mark.parametrize(
    "classes, ignore, message",
    [
        ({}, [], "data.classes is empty"),
        ({" ": 1}, [], "empty name"),
        ({"a": 1, "b": [0, 1]}, [], "data.classes.b claims mask value 1 as data.classes.a does"),
        ({"a": [1, 1]}, [], "data.classes.a claims mask value 1 twice"),
        ({"a": 1}, [1], "data.ignore claims mask value 1 as data.classes.a does"),
        ({"a": [0, 0, 10], "b": "#00000A"}, [], "data.classes.b claims mask value #00000a as data.classes.a does"),
        ({"a": "#00000A", "b": 1}, [], "data.classes.a is a colour, '#00000A', but some class or data.ignore is none"),
        ({"a": None}, [], "data.classes.a must be a mask value .*in quotes.*got None"),
        ({"a": True}, [], "data.classes.a must be .*got True"),
        ({"a": 1.0}, [], "data.classes.a must be .*got 1.0"),
        ({"a": -1}, [], "data.classes.a must be .*got -1"),
        ({"a": 65536}, [], "data.classes.a must be .*got 65536"),
        ({"a": []}, [], r"data.classes.a must be .*got \[\]"),
        ({"a": "red"}, [], "data.classes.a must be .*got 'red'"),
        ({"a": {"x": 1}}, [], "data.classes.a must be "),
        ({"a": 1}, ["x"], "data.ignore must be "),
    ],
)
def test_declarations_that_cannot_be(classes, ignore, message):
    with pytest.raises(ConfigError, match=message):
        parse_classes(classes, ignore)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_can_be_sent_to_other_processes(copier):
    mask = np.array([[3, 4]], np.uint8)
    assert copier(parse_classes({"a": 3}, [4]))(mask, "m").tolist() == [[0, 255]]
