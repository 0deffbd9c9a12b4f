"""The store of features: what is found, what is not, and what a kill or a full disk leaves."""

import errno
import os
import pickle
import time
from pathlib import Path

import pytest
import torch

from samseg.common.errors import InputError
from samseg.data.sources.folders import FolderSource
from samseg.features.store import DAY_S, FeatureStore, cache_folder
from tests.processes import first_line, kill, start

RECIPE = {"encoder": "e", "weights": "w", "image_size": 64, "mean": [0.1], "dtype": "float16"}
TAPS = [torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0)), torch.randn(3, 2, 2)]


class Files(FolderSource):
    """Files by name, none of which need be an image."""

    def __init__(self, *files: Path):
        self.split, self.names = "train", [file.name for file in files]
        self.files = {file.name: file for file in files}


def key(image: Path) -> tuple[Files, str]:
    return Files(image), image.name


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"an image")
    return path


def store_of(image: Path, **changes) -> FeatureStore:
    store = FeatureStore(image.parent / "cache", "e-64", RECIPE | changes)
    store.add(Files(image))
    return store


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_what_is_written_is_read(image, dtype):
    store = store_of(image, dtype=dtype)
    store.write(*key(image), 0, TAPS)
    again = pickle.loads(pickle.dumps(store))  # as reading processes get it
    for found, tap in zip(again.read(*key(image), 0), TAPS, strict=True):
        assert found.dtype == getattr(torch, dtype)
        assert found.permute(2, 0, 1).equal(tap.to(found.dtype))
    assert again.state(*key(image), 0) == "sound"


def test_the_key_is_the_content(image):
    store = store_of(image)
    store.write(*key(image), 0, TAPS)
    twin = image.with_name("twin.png")
    twin.write_bytes(image.read_bytes())
    store.add(Files(twin))
    assert store.state(*key(twin), 0) == "sound"
    assert store.state(*key(image), 1) == "missing"
    for change in ({"weights": "x"}, {"image_size": 80}, {"mean": [0.2]}, {"dtype": "bfloat16"}, {"encoder": "f"}):
        assert store_of(image, **change).state(*key(image), 0) == "missing"
    image.write_bytes(b"another image")
    assert store_of(image).state(*key(image), 0) == "missing"


def test_every_damage_is_seen(image):
    store = store_of(image)
    store.write(*key(image), 0, TAPS)
    path, sound = store.path(*key(image), 0), store.path(*key(image), 0).read_bytes()
    start = 8 + int.from_bytes(sound[:8], "little")
    for length in (0, 5, start - 1, start, len(sound) - 1):
        path.write_bytes(sound[:length])
        assert store.state(*key(image), 0) == "damaged"
    for place in range(start, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        assert store.state(*key(image), 0) == "damaged"
    path.unlink()
    with pytest.raises(InputError, match="train.resume=true computes them again"):
        store.read(*key(image), 0)


def write_half(image: Path) -> None:
    def half(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            print("half", flush=True)
            time.sleep(600)

    Path.write_bytes = half
    store_of(image).write(*key(image), 0, [torch.zeros(64, 32, 32)])


def test_a_killed_process_leaves_no_half_entry(image):
    process = start(write_half, image, folder=image.parent)
    assert first_line(process, image.parent) == "half"
    kill(process)
    store = store_of(image)
    (left,) = store.folder.iterdir()
    assert store.state(*key(image), 0) == "missing" and left.stat().st_size > 1000
    store.write(*key(image), 0, TAPS)
    assert store.state(*key(image), 0) == "sound"
    store.sweep()
    assert left.exists()  # another process may be at it
    os.utime(left, (0, left.stat().st_mtime - DAY_S - 60))
    store.sweep()
    assert list(store.folder.iterdir()) == [store.path(*key(image), 0)]


def test_a_full_disk_is_one_line_and_leaves_nothing(image, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = store_of(image)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        InputError, match=r"\(No space left on device\); make room there, or .*train.cache_dir"
    ) as error:
        store.write(*key(image), 0, TAPS)
    assert "\n" not in str(error.value)
    assert not any(store.folder.iterdir())


def test_a_folder_that_cannot_be_written(image):
    image.with_name("cache").write_text("a file")
    with pytest.raises(InputError, match="name another folder with train.cache_dir"):
        store_of(image).write(*key(image), 0, TAPS)


def test_values_beyond_float16(image):
    with pytest.raises(InputError, match="train.cache_dtype=bfloat16"):
        store_of(image).write(*key(image), 0, [torch.full((1, 2, 2), 1e5)])
    store_of(image, dtype="bfloat16").write(*key(image), 0, [torch.full((1, 2, 2), 1e5)])


def test_where_the_cache_is(monkeypatch):
    assert cache_folder("~/x") == Path.home() / "x"
    monkeypatch.setenv("XDG_CACHE_HOME", "/big")
    assert cache_folder(None) == Path("/big/samseg/features")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == Path.home() / ".cache/samseg/features"
