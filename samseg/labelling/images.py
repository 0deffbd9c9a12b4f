"""The image of a Label Studio task: a file below a folder of this machine, or what the server that asks holds."""

import base64
import json
import re
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from samseg.common.errors import InputError, first_line
from samseg.data.formats.images import read_image
from samseg.data.raster import Raster

LOOPBACK = {"127.0.0.1", "::1"}
MOST_MB = 512
SECONDS = 30
ANOTHER_KEY = (
    "make a personal access token there (Account & Settings) and start samseg with LABEL_STUDIO_API_KEY=TOKEN, or name "
    "the images' folder with --root"
)


@dataclass(frozen=True)
class LabelStudio:
    """A Label Studio: its address without a slash at the end, and an access token, the old kind or a personal one."""

    url: str
    key: str

    def is_at(self, address: str) -> bool:
        """Whether it is on the machine of an IP address."""
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(urlsplit(self.url).hostname, None)}
        except (OSError, ValueError):
            return False
        return address in found or {address, *found} <= LOOPBACK

    def check(self, seconds: float) -> None:
        """InputError if it does not take the token; nothing where it is too busy to say."""
        try:
            self._open("/api/current-user/whoami", seconds).close()
        except TimeoutError:
            pass

    def read(self, path: str) -> bytes:
        """The content at a path; InputError, with what to do, if it cannot be read."""
        try:
            with self._open(path, SECONDS) as answer:
                content = answer.read(MOST_MB * 2**20 + 1)
        except OSError as error:
            raise InputError(f"{self.url}{path} cannot be read ({first_line(error)}); try again") from None
        if len(content) > MOST_MB * 2**20:
            raise InputError(f"{self.url}{path} is larger than {MOST_MB} MB; name the images' folder with --root")
        return content

    def _open(self, path: str, seconds: float) -> IO[bytes]:
        try:
            return _OPENER.open(Request(self.url + path, headers=self._authorization(seconds)), timeout=seconds)
        except HTTPError as error:
            if error.code in (401, 403) or "/user/login" in error.headers.get("Location", ""):
                raise InputError(f"{self.url} refuses the access token ({_detail(error)}); {ANOTHER_KEY}") from None
            if error.code in range(300, 400):
                where = urlsplit(error.headers.get("Location", "")).netloc
                raise InputError(
                    f"{self.url}{path} lies at {where}, and images are taken from Label Studio alone: turn off 'Use "
                    "pre-signed URLs' in the storage's settings, or name the images' folder with --root"
                ) from None
            raise InputError(f"{self.url}{path}: {error.code} {_detail(error)}") from None
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise TimeoutError("no answer") from None
            raise InputError(
                f"Label Studio does not answer at {self.url} ({error.reason}); name its address with --server"
            ) from None

    def _authorization(self, seconds: float) -> dict[str, str]:
        if self.key.count(".") != 2:
            return {"Authorization": f"Token {self.key}"} if self.key else {}
        body = json.dumps({"refresh": self.key}).encode()
        request = Request(f"{self.url}/api/token/refresh/", body, {"Content-Type": "application/json"})
        try:
            with _OPENER.open(request, timeout=seconds) as answer:
                return {"Authorization": f"Bearer {json.load(answer)['access']}"}
        except HTTPError as error:
            raise InputError(
                f"{self.url} refuses the personal access token ({_detail(error)}); {ANOTHER_KEY}"
            ) from None


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None  # an HTTPError then says where to


_OPENER = build_opener(ProxyHandler({}), _NoRedirect)


def _detail(error: HTTPError) -> str:
    """What Label Studio says of a request that it refuses."""
    try:
        return str(json.load(error)["detail"])
    except (ValueError, TypeError, KeyError, OSError):
        return error.reason


def image_of(task: int, where: str, root: Path | None, server: LabelStudio | None) -> Raster:
    """The image that a task's data name, of any form that Label Studio has for them.

    Args:
        task: its number.
        where: such as /data/upload/1/a.png, /data/local-files/?d=a.png, s3://bucket/a.png.
        root: a folder whose files go first; those that lie in folders below it are found by the end of ``where``.
        server: asked where there is no such file.

    Raises:
        InputError: in neither, or no image.
    """
    file = None if root is None else _below(root, where)
    if file is not None:
        return _read(file)
    if server is None:
        raise InputError(
            f"there is no {where} below --root"
            if root
            else "Label Studio has not said where it is since samseg was started: open the project's Settings > Model"
        )
    with tempfile.TemporaryDirectory(prefix="samseg-") as folder:
        file = Path(folder) / (PurePosixPath(_path_in(where)).name or "image")
        file.write_bytes(server.read(_on_server(task, where, server)))
        return _read(file)


def _read(file: Path) -> Raster:
    """`read_image` without the folder's name in its errors, which are shown to whoever labels."""
    try:
        return read_image(file)
    except InputError as error:
        raise InputError(str(error).replace(str(file), file.name)) from None


def _path_in(where: str) -> str:
    """The path of a file in an address."""
    return unquote(where.rpartition("?d=")[2]) if "?d=" in where else unquote(urlsplit(where).path)


def _below(root: Path, where: str) -> Path | None:
    """The file of an address below a folder: that of the longest end of its path. None if there is none."""
    root, parts = root.resolve(), PurePosixPath(_path_in(where).lstrip("/")).parts
    for start in range(len(parts)):
        file = root.joinpath(*parts[start:]).resolve()
        if file.is_relative_to(root) and file.is_file():
            return file
    return None


def _on_server(task: int, where: str, server: LabelStudio) -> str:
    """The path under which a Label Studio has the file of an address."""
    if where.startswith("/"):
        return quote(where, safe="/?=&%")
    if where.startswith(("http://", "https://")):
        if where.startswith(f"{server.url}/"):
            return where.removeprefix(server.url)
        raise InputError(
            f"{where} lies elsewhere, and images are taken from Label Studio ({server.url}) alone: name a folder of "
            "them with --root"
        )
    if re.match(r"[\w+-]+://", where):  # of a storage in the cloud
        return f"/tasks/{task}/resolve/?fileuri={base64.urlsafe_b64encode(where.encode()).decode()}"
    raise InputError(f"{where[:80]!r} is no address of an image; name a folder of them with --root")
