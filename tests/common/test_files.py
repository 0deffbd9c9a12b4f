"""Files appear whole or not at all, whatever the disk does."""

import os
import re

import pytest

from samseg.common.errors import InputError
from samseg.common.files import Sink, WriteError, sweep, write_bytes, written_whole
from tests.faults import make_read_only, small_disk


def test_a_full_disk_keeps_what_was_there(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        write_bytes(disk / "a.bin", b"before")
        with pytest.raises(
            WriteError, match=r"a\.bin cannot be written \(No space left on device\): make room"
        ) as error:
            write_bytes(disk / "a.bin", bytes(2**15))
        assert error.value.full and isinstance(error.value, InputError)
        assert (disk / "a.bin").read_bytes() == b"before" and os.listdir(disk) == ["a.bin"]


def test_a_read_only_disk(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        make_read_only(disk)
        with pytest.raises(
            WriteError, match=r"a\.bin cannot be written \(Read-only file system\): name another place$"
        ):
            write_bytes(disk / "new" / "a.bin", b"")


def test_a_disk_that_takes_a_part_and_says_nothing(tmp_path):
    """As PIL met it: the last write is cut short."""

    class Short(bytes):
        def __len__(self):
            return 10

    with pytest.raises(WriteError, match=r"a\.bin cannot be written"):
        write_bytes(tmp_path / "a.bin", Short(b"nine byte"))
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(WriteError, match="cannot be written .File name too long"):
        write_bytes(tmp_path / ("a" * 300), b"")


def test_what_is_flushed_is_open_for_writing(tmp_path, monkeypatch):
    """Windows refuses to flush what is open for reading alone."""

    def fsync(number: int) -> None:
        os.write(number, b"")  # EBADF where it is not open for writing, as Windows' own answers

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(tmp_path / "a.bin", b"content")
    assert (tmp_path / "a.bin").read_bytes() == b"content"


def test_defects_keep_their_traceback(tmp_path):
    with pytest.raises(KeyError), written_whole(tmp_path / "a.bin"):
        raise KeyError("a")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_sink_takes_everything_and_raises_at_the_end():
    with open("/dev/full", "wb", buffering=0) as full:
        sink = Sink(full)
        assert sink.write(b"abc") == sink.write(b"def") == 3
        with pytest.raises(OSError, match="No space left"):
            sink.finish()


def test_leftovers_of_a_killed_write_are_swept_and_no_others(tmp_path):
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "state.pt") as temporary:
        leftover = temporary.with_name(re.sub("..pt$", "x.pt", temporary.name))  # a kill would have left it
        leftover.write_bytes(b"half")
        raise KeyboardInterrupt
    for name in ("state.pt", ".state-1.safetensors", ".best-1.pt"):
        (tmp_path / name).touch()
    sweep(tmp_path / "state.pt")
    assert sorted(os.listdir(tmp_path)) == [".best-1.pt", ".state-1.safetensors", "state.pt"]
