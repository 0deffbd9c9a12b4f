"""The folder of a map's parts: who may make it ready, and when."""

import json

import pytest

from samseg.common.errors import InputError
from samseg.maps.parts.store import FACTS, GRID, PartStore
from tests.maps.rasters import store


def test_shards_that_begin_together_make_one_folder_ready(tmp_path):
    """What another has just begun to write, or a killed one has left, is no stranger's file."""
    folder = tmp_path / "a.parts"
    folder.mkdir()
    for name in (GRID, FACTS):
        (folder / f".{name.replace('.', '-x7.')}").write_bytes(b"half")
    parts = store(folder, (100, 90))
    assert (folder / FACTS).is_file() and (folder / GRID).is_file()
    parts.prepare()


def test_a_strangers_folder_is_left_alone(tmp_path):
    folder = tmp_path / "a.parts"
    folder.mkdir()
    (folder / "thesis.docx").touch()
    with pytest.raises(InputError, match="exists and holds no parts of a map; name another --out"):
        store(folder, (100, 90))
    assert [path.name for path in folder.iterdir()] == ["thesis.docx"]


@pytest.mark.parametrize("damage", [b"{", b"\x8a", b"[]", b"{}"])
def test_a_damaged_folder_is_one_line(tmp_path, damage):
    parts = store(tmp_path / "a.parts", (100, 90))
    parts.prepare()
    (tmp_path / "a.parts" / FACTS).write_bytes(damage)
    for use in (parts.prepare, parts.clear, lambda: PartStore.opened(tmp_path / "a.parts")):
        with pytest.raises(InputError, match=r"is damaged .*: delete .*a.parts to start anew"):
            use()


def test_a_description_that_is_none_is_damaged_too(tmp_path):
    parts = store(tmp_path / "a.parts", (100, 90))
    parts.prepare()
    file = tmp_path / "a.parts" / FACTS
    file.write_text(json.dumps(json.loads(file.read_text()) | {"digest": "another", "about": 7}))
    with pytest.raises(InputError, match="is damaged"):
        parts.prepare()
