"""A file arrives whole and true, or there is one line that says why; what has come is never fetched twice."""

import hashlib
import os
import threading

import pytest

from samseg.common.download import DownloadError, download
from samseg.common.errors import InputError
from tests.file_server import serving

CONTENT = os.urandom(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving({"/weights": CONTENT}) as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "sam" / "model.pth"


def failure(kind, *arguments, **settings) -> str:
    with pytest.raises(kind) as caught:
        download(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def only(target):
    """The target is all that is left in its folder."""
    return [file.name for file in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("digest", [SHA256, None], ids=["published", "unpublished"])
def test_goes_on_where_connections_break_off(server, target, digest):
    server.breaks_after = [300_000, 200_000]
    download(f"{server.url}/weights", target, digest)
    assert target.read_bytes() == CONTENT and only(target)
    assert server.ranges_asked("/weights") == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_call_goes_on(server, target):
    server.breaks_after = [300_000, 0]
    message = failure(DownloadError, f"{server.url}/weights", target, SHA256)
    assert "broke off after 0.3 MB of 0.7 MB" in message and "0.3 MB that arrived are kept" in message
    assert not target.exists()
    download(f"{server.url}/weights", target, SHA256)
    assert target.read_bytes() == CONTENT and only(target)
    assert server.ranges_asked("/weights")[-1] == "bytes=300000-"


def test_servers_without_ranges_begin_again(server, target):
    server.ranges, server.breaks_after = False, [300_000]
    download(f"{server.url}/weights", target, SHA256)
    assert target.read_bytes() == CONTENT


def test_complete_part_is_not_fetched_again(server, target):
    """A process that was killed between the last byte and the renaming."""
    target.parent.mkdir()
    target.with_name(f"{target.name}.{SHA256[:8]}.part").write_bytes(CONTENT)
    download(f"{server.url}/weights", target, SHA256)
    assert target.read_bytes() == CONTENT and only(target)


def test_a_stalled_server_is_given_up(server, target):
    server.pause = 5
    message = failure(DownloadError, f"{server.url}/weights", target, SHA256, stalled=0.2)
    assert "it sends nothing" in message


def test_lies_are_not_kept(server, target):
    server.lies["/weights"] = b"<html>log in to the network</html>"
    assert "not the published file" in failure(DownloadError, f"{server.url}/weights", target, SHA256)
    assert not [file for file in target.parent.iterdir() if file.suffix != ".lock"]
    server.lies.clear()
    download(f"{server.url}/weights", target, SHA256)
    assert target.read_bytes() == CONTENT


def test_refusals_say_what_was_answered(server, target):
    assert "404" in failure(DownloadError, f"{server.url}/elsewhere", target, SHA256)
    url = server.url
    server.shutdown()
    server.server_close()
    assert "refused" in failure(DownloadError, f"{url}/weights", target, SHA256)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk(server, target):
    target.parent.mkdir()
    target.with_name(f"{target.name}.{SHA256[:8]}.part").symlink_to("/dev/full")
    message = failure(InputError, f"{server.url}/weights", target, SHA256)
    assert "disk is full" in message and "XDG_CACHE_HOME" in message


def test_two_at_once_fetch_once(server, target):
    server.pause = 0.01
    threads = [threading.Thread(target=download, args=(f"{server.url}/weights", target, SHA256)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert target.read_bytes() == CONTENT
    assert server.ranges_asked("/weights") == [None]
