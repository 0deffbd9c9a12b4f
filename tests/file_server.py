"""A local server of files that can break off, stall, lie and refuse, as those on the net do."""

import hashlib
import re
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` (path -> bytes) with ranges and the hub's headers; knobs make it misbehave.

    Attributes:
        requests: (method, path, Range header) of all that was asked.
        tokens: path -> the Authorization headers that came with it, None for each that came without.
        errors: path -> the status, and the content, of an answer that is none.
        redirects: path -> the address at which its content is; asked there, it answers as the hub does.
        breaks_after: bytes of a response after which the connection is closed; a list, an entry a GET, None: never.
        pause: seconds before each of the blocks of 64 kB.
        ranges: False: it ignores Range and sends all, as plain servers do.
        lies: path -> bytes it sends instead, under the headers of the true content.
        without_digest: paths whose digest it keeps to itself.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.requests, self.breaks_after, self.pause = files, [], [], 0.0
        self.ranges, self.lies, self.without_digest = True, {}, set()
        self.tokens, self.redirects, self.errors = defaultdict(list), {}, {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ranges_asked(self, path: str) -> list[str | None]:
        return [asked for method, at, asked in self.requests if (method, at) == ("GET", path)]


def serving(files: dict[str, bytes]):
    return served(FileServer(files))


@contextmanager
def served(server: ThreadingHTTPServer):
    """Run a server in a thread for the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_content=False)

    def do_GET(self):
        self._answer(with_content=True)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(with_content=True)

    def _answer(self, with_content: bool):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.command, self.path, asked))
        server.tokens[self.path].append(self.headers.get("Authorization"))
        if self.path in server.errors:
            status, content = server.errors[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        digest = hashlib.sha256(content).hexdigest()
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.send_header("X-Linked-ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = server.lies.get(self.path, content)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.path not in server.without_digest:
            self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not with_content:
            return
        limit = server.breaks_after.pop(0) if server.breaks_after else None
        part = content[start:] if limit is None else content[start : start + limit]
        try:
            for at in range(0, len(part), 2**16):
                time.sleep(server.pause)
                self.wfile.write(part[at : at + 2**16])
                self.wfile.flush()
        except OSError:
            pass  # the client has gone
        if limit is not None:
            self.close_connection = True
