"""Splits that are drawn: by name alone, with their groups, and the same everywhere."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from samseg.common.errors import ConfigError, InputError
from samseg.data.config import DataConfig, complete_data, open_source, split_images
from samseg.data.splits import draw_splits, share_of

SHARES = [0.7, 0.15, 0.15]
NAMES = [f"patient{number % 40:02d}_{number:03d}" for number in range(400)]


def test_shares_are_about_what_was_asked_for():
    counts = Counter(draw_splits([f"image {number}" for number in range(4000)], SHARES, 0, None).values())
    assert counts["train"] == pytest.approx(2800, abs=120) and counts["val"] == pytest.approx(600, abs=100)
    assert set(draw_splits(NAMES, [0.8, 0.2], 0, None).values()) == {"train", "val"}


def test_images_stay_where_they_are_when_others_are_added_and_move_with_the_seed():
    few, all_of_them = draw_splits(NAMES[100:200], SHARES, 0, None), draw_splits(NAMES, SHARES, 0, None)
    assert all(all_of_them[name] == split for name, split in few.items())
    assert draw_splits(NAMES, SHARES, 1, None) != all_of_them == draw_splits(reversed(NAMES), SHARES, 0, None)


def test_what_belongs_together_is_drawn_together():
    splits = draw_splits(NAMES, SHARES, 0, r"(patient\d+)_.*")
    of_patient = {name[:9]: {splits[other] for other in NAMES if other[:9] == name[:9]} for name in NAMES}
    assert all(len(found) == 1 for found in of_patient.values()) and len(set(splits.values())) == 3
    with pytest.raises(InputError, match=r"=\(patient\\d\+\)_\.\* does not match 1 of 401 names, such as 'other'"):
        draw_splits([*NAMES, "other"], SHARES, 0, r"(patient\d+)_.*")


def test_a_smaller_fraction_is_a_part_of_a_larger_and_takes_groups_whole(scenes):
    shares = {share: share_of(NAMES, share, 0, None) for share in (0.001, 0.1, 0.3, 1)}
    assert [len(names) for names in shares.values()] == [1, 40, 120, 400]
    assert set(shares[0.001]) < set(shares[0.1]) < set(shares[0.3]) and shares[1] == NAMES
    assert [name for name in NAMES if name in shares[0.1]] == shares[0.1] != share_of(NAMES, 0.1, 1, None)
    assert len({name[:9] for name in share_of(NAMES, 0.1, 0, r"(patient\d+)_.*")}) == 4
    data = DataConfig(root=str(scenes), source="folders", fraction=0.5)
    assert len(open_source(data, "train").names) == 3 == len(open_source(data, "val").names)
    assert "train: 3 of 6 images, by data.fraction=0.5" in open_source(data, "train").notes


@pytest.mark.parametrize("images", [3, 4, 5, 6])
def test_no_split_of_a_few_images_is_empty(images):
    for seed in range(20):
        assert set(draw_splits(NAMES[:images], SHARES, seed, None).values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"split": [0.5, 0.4]}, "data.split is the shares of train, val and test, which add up to 1"),
        ({"split": [1.0, 0.0]}, "data.split is the shares"),
        ({"split": [1.2, -0.2]}, "data.split is the shares"),
        ({"split": [1.0]}, "data.split is the shares"),
        ({"fraction": 0.0}, "data.fraction must be above 0 and at most 1, got 0.0"),
        ({"group": "(a)"}, "data.group is for data.split"),
        ({"split": SHARES, "group": "(a"}, "data.group=.a is no regular expression"),
        ({"split": SHARES, "group": "a"}, "data.group=a captures nothing"),
        ({"split": SHARES, "source": "maps"}, "maps are cut into splits by data.maps.split=blocks"),
    ],
)
def test_what_cannot_be_drawn(settings, message):
    with pytest.raises(ConfigError, match=message):
        complete_data(DataConfig(**settings))


def test_one_folder_is_cut_into_splits(scenes, tmp_path):
    """Of a root with splits train is cut, of one without all; each image is in one split, and others are unknown."""
    shutil.copytree(scenes / "train", tmp_path / "flat")
    flat = {"images": "images/{name}", "masks": "masks/{name}"}
    for root, folders in ((scenes, None), (tmp_path / "flat", flat)):
        data = DataConfig(root=str(root), split=SHARES)
        for key, pattern in (folders or {}).items():
            setattr(data.folders, key, pattern)
        complete_data(data)
        sources = [open_source(data, split) for split in ("train", "val", "test")]
        assert sorted(name for source in sources for name in source.names) == [f"train{i}" for i in range(6)]
        for source in sources:
            assert source.names and [file.stem for file in split_images(data, source.split)] == source.names
            assert f"{source.split}: {len(source.names)} of 6 images, drawn by data.split=" in source.notes[-1]
        data.split = [0.9, 0.1]  # of train and val: test lies where it lies
        if folders is None:
            assert open_source(data, "test").names == ["test0", "test1"]
        else:
            with pytest.raises(ConfigError, match="data.folders.images must hold {split}"):
                open_source(data, "test")


def test_a_split_of_no_images_is_one_line(scenes):
    data = DataConfig(root=str(scenes), split=[0.5, 0.5, 0.0])
    with pytest.raises(InputError, match=r"data.split=\[0.5, 0.5, 0.0\] gives test none of the 6 images"):
        open_source(data, "test")


def test_without_splits_the_way_out_is_named():
    data = DataConfig(source="labelme", root=str(Path("x")))
    data.labelme.images = "images"
    with pytest.raises(ConfigError, match=r"data.labelme.images must hold {split}.*; data.split=\[0.7, 0.15, 0.15\]"):
        complete_data(data)
