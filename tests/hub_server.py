"""A local Hugging Face hub, as far as samseg speaks to it: files by HEAD and GET, repositories made, commits taken."""

import base64
import json
import re
import threading
from contextlib import contextmanager

import huggingface_hub.utils
import pytest
from huggingface_hub import constants, file_download

from tests.file_server import FileServer, _Handler

TOKEN = "hf_secret"
COMMIT = "0" * 40


class HubServer(FileServer):
    """Repositories and their files; who writes needs `TOKEN`.

    Attributes:
        private: repositories that have been made private.
        gated: repositories that are read by those alone who have accepted their licence: `TOKEN`.
    """

    def __init__(self):
        super().__init__({})
        self.RequestHandlerClass, self.private, self.gated = _HubHandler, set(), set()

    def put(self, repository: str, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            for revision in ("main", COMMIT):
                self.files[f"/{repository}/resolve/{revision}/{name}"] = content

    def repository(self, name: str) -> dict[str, bytes]:
        start = f"/{name}/resolve/main/"
        return {path.removeprefix(start): content for path, content in self.files.items() if path.startswith(start)}


class _HubHandler(_Handler):
    def send_error(self, code: int, *_) -> None:
        """With the hub's word for what is not there."""
        _, user, name, *_ = [*self.path.split("/"), "", ""]
        known = any(path.startswith(f"/{user}/{name}/") for path in self.server.files)
        main = re.match(rf"/{user}/{name}/resolve/(main|{COMMIT})/", self.path)
        word = "EntryNotFound" if known and main else "RevisionNotFound" if known else "RepoNotFound"
        self._send(code, {"error": word}, {"X-Error-Code": word})

    def _answer(self, with_content: bool):
        user, _, name = self.path.lstrip("/").partition("/")
        token = self.headers.get("Authorization")
        if f"{user}/{name.partition('/')[0]}" in self.server.gated and token != f"Bearer {TOKEN}":
            self._send(403 if token else 401, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        else:
            super()._answer(with_content)

    def do_GET(self):
        if re.match("/api/models/[^/]+/[^/]+/revision/", self.path):
            self._send(200, {"id": "run", "xetEnabled": False})  # clients before 1.0 ask before they send
        else:
            super().do_GET()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(("POST", self.path, None))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(name)
            self.server.put(name, {".gitattributes": b""})
            self._send(200, {"url": f"{self.server.url}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._send(200, {"files": [{**file, "shouldIgnore": False} for file in files]})
        elif "/commit/" in self.path:
            name = re.match("/api/models/([^/]+/[^/]+)/commit/", self.path)[1]
            operations = [json.loads(line) for line in body.splitlines()]
            files = {one["value"]["path"]: one["value"]["content"] for one in operations if one["key"] == "file"}
            self.server.put(name, {path: base64.b64decode(content) for path, content in files.items()})
            self._send(200, {"commitOid": COMMIT, "commitUrl": f"{self.server.url}/{name}/commit/{COMMIT}"})
        else:
            self._send(404, {"error": "not spoken here"})

    def _send(self, code: int, content: dict, headers: dict[str, str] | None = None) -> None:
        data = b"" if self.command == "HEAD" else json.dumps(content).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def forget_sessions() -> None:
    """To be called when a machine goes on or off line: clients before 1.0 keep the sessions that they have begun."""
    getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()


@contextmanager
def hub(cache: object):
    """A hub with an empty ``cache`` of this machine, and nobody logged in."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", server.url)
        for where in (constants, file_download):  # clients before 1.0 look at the second
            patch.setattr(where, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_TOKEN_PATH", f"{cache}/token")
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.delenv("HF_TOKEN", raising=False)
        forget_sessions()
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()
