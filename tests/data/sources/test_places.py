"""Which files on disk are meant by the names that stand in annotations and keys."""

import unicodedata
from pathlib import Path

import pytest

from samseg.common.errors import InputError
from samseg.data.sources.coco import CocoConfig, CocoSource
from samseg.data.sources.places import files_meant, list_images
from tests.data import exports

COMPOSED, APART = (unicodedata.normalize(form, "Zürich é.png") for form in ("NFC", "NFD"))


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "on_disk, named",
    [
        ("a.png", "a.png"),
        ("night/a.png", "night/a.png"),
        ("night/a.png", r"night\a.png"),
        ("a b (1).png", "a%20b%20%281%29.png"),
        ("100%25.png", "100%25.png"),  # as it is before it is decoded
        (COMPOSED, APART),
        (APART, COMPOSED),
        (APART, "Z%C3%BCrich%20%C3%A9.png"),
        ("a.png", r"images\a.png"),
        ("a.png", "../../data/upload/7/1f2e3d4c-a.png"),
        ("1f2e3d4c-a.png", "/data/upload/7/1f2e3d4c-a.png"),
        ("a [1].v2.PNG", "C:\\scans\\a [1].v2.PNG"),
    ],
)
def test_a_file_is_found_by_the_name_of_another_machine(tmp_path, on_disk, named):
    touch(tmp_path, on_disk, "other.png")
    assert files_meant(tmp_path, [named]) == [tmp_path / on_disk]
    assert files_meant(tmp_path, [named, "gone.png"]) == [tmp_path / on_disk, None]


def test_a_file_that_is_gone_is_not_another_of_the_same_name_elsewhere(tmp_path):
    touch(tmp_path, "day/a.png", "a.png")
    assert files_meant(tmp_path, ["day/a.png", "night/a.png"]) == [tmp_path / "day" / "a.png", None]


def test_two_that_become_one_file_are_told(tmp_path):
    exports.photo(tmp_path / "images" / "a.png")
    folders = iter(("day", "night"))
    exports.write(
        tmp_path / "all.json", exports.coco(("a", "a"), ["cell", "plate"], lambda _: rf"{next(folders)}\a.png")
    )
    with pytest.raises(InputError, match="all.json lists two images of one name or id: a"):
        CocoSource(tmp_path, "train", CocoConfig("images", "all.json"))


def test_only_images_are_listed(tmp_path):
    listed = ["a.JPEG", "b.jpg", "c.Tif", "d.tiff", "e.PNG"]
    others = [".hidden.png", "._e.PNG", "Thumbs.db", ".DS_Store", "c.tfw", "c.Tif.aux.xml", "notes.txt", "png"]
    for name in listed + others:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == listed
