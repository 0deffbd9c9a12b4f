"""Download of one file: goes on where it broke off, and counts only with the published digest."""

import os
import shutil
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

from filelock import FileLock
from tqdm import tqdm

from samseg.common.errors import InputError, first_line
from samseg.common.files import BLOCK, FULL, file_digest
from samseg.common.machine import megabytes

STALLED = 30.0  # seconds without a byte after which a connection is given up


class DownloadError(InputError):
    """A source does not give the file; another may."""


def download(
    url: str, file: Path, sha256: str | None, headers: Mapping[str, str] | None = None, stalled: float = STALLED
) -> None:
    """Bring ``url`` to ``file``, with a progress bar on a terminal.

    What has arrived lies beside it as ``.part`` until all is there and its digest is ``sha256`` (None: nobody publishes
    one): a later call goes on behind it, and so does this one as long as each new connection brings something.
    Processes that want the same file wait for the one that began. ``headers``, such as a token, go to the host of
    ``url`` and to no other that it leads to.

    Raises DownloadError, in one line, when the source cannot be reached or gives something else, and InputError when
    the disk is full.
    """
    part = file.with_name(f"{file.name}.{sha256[:8] if sha256 else 'unnamed'}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{part}.lock"):  # whoever has it goes on, or gives up a connection that stalls, or has ended
        if file.exists():
            return
        while True:
            before = _size(part)
            try:
                _append(url, part, headers or {}, stalled)
                break
            except (OSError, HTTPException) as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    raise _disk_full(part, _size(part)) from error
                if _size(part) <= before:
                    kept = f"; the {megabytes(before)} that arrived are kept" if before else ""
                    raise DownloadError(f"{_reason(error)}{kept}") from error
        found = file_digest(part)
        if sha256 is not None and found != sha256:
            part.unlink()
            raise DownloadError(f"what it gave is not the published file (sha256 {found[:16]}, expected {sha256[:16]})")
        os.replace(part, file)
    with suppress(OSError):  # Windows: another process waits for it
        os.unlink(f"{part}.lock")


def _append(url: str, part: Path, headers: Mapping[str, str], stalled: float) -> None:
    """Add to ``part`` what it lacks; whatever goes wrong, it keeps what has come."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    try:
        response = urllib.request.build_opener(_SameHost).open(request, timeout=stalled)
    except HTTPError as error:
        if error.code == 416 and start:  # there is nothing behind it: the digest will say whether it is all
            return
        raise
    with response:
        if start and (response.status != 206 or _first_byte(response.headers) != start):
            start = 0  # a server that does not give parts sends all of it
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if total and shutil.disk_usage(part.parent).free < total - start:
            raise _disk_full(part, start, total)
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(desc=part.parent.name, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while block := response.read1(BLOCK):
                file.write(block)
                bar.update(len(block))
        if total and _size(part) < total:
            raise ConnectionError(f"the connection broke off after {megabytes(_size(part))} of {megabytes(total)}")


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects; what is meant for one host goes along where they stay there."""

    def redirect_request(self, request, response, code, reason, headers, url):
        onward = super().redirect_request(request, response, code, reason, headers, url)
        if urlsplit(url)[:2] == urlsplit(request.full_url)[:2]:
            onward.unredirected_hdrs = dict(request.unredirected_hdrs)
        return onward


def _first_byte(headers) -> int | None:
    """Where the part begins that a server sends: 5 in "bytes 5-9/10"."""
    start = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _disk_full(part: Path, kept: int, total: int | None = None) -> InputError:
    need = f"{megabytes(total - kept)} more are needed" if total else "the disk is full"
    return InputError(
        f"{part.parent}: {need}, {megabytes(shutil.disk_usage(part.parent).free)} are free; make room, or set "
        f"XDG_CACHE_HOME to a folder on another disk; {megabytes(kept)} are kept, and the same command goes on there"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"it answers {error.code} {error.reason}"
    reason = getattr(error, "reason", error)  # what URLError wraps
    if isinstance(reason, TimeoutError):
        return "it sends nothing"
    return getattr(reason, "strerror", None) or first_line(reason)
