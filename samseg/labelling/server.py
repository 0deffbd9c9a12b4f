"""The HTTP server that Label Studio asks, and who may ask it."""

import base64
import hmac
import json
import sys
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from samseg.common.errors import InputError
from samseg.labelling.backend import Backend, say

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_MB = 256  # of a request, which holds a task's annotations with all their brush strokes
HEALTHY = {"status": "UP", "model_class": "samseg"}
NO_TRAINING = "samseg label-studio does not train: export the project as JSON, and samseg train"


class Refused(Exception):
    """A request that is not answered: status and reason."""

    def __init__(self, status: HTTPStatus, reason: str):
        super().__init__(reason)
        self.status = status


class Server(ThreadingHTTPServer):
    """Answers health at once, whatever else is being computed: Label Studio waits a second for it.

    Args:
        backend: what answers.
        host, port: where; 0 is any free port.
        token: the password of those who ask; None: they must be on this machine.
        page: a text for people who open the address.
    """

    daemon_threads = True

    def __init__(self, backend: Backend, host: str, port: int, token: str | None, page: str):
        if host not in LOOPBACK and not token:
            raise InputError(f"--host {host} opens samseg to others; name the password that they need with --token")
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"port {port} of {host} cannot be had ({reason}); name another with --port") from None
        self.backend, self.token, self.page = backend, token, page

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60  # seconds for a request to arrive

    def log_message(self, *_) -> None:
        """Nothing: what is answered is said by the backend, what is refused by `_refuse`."""

    def do_GET(self) -> None:
        version = {"versions": [self.server.backend.version]}
        self._serve({"/": lambda: self.server.page, "/health": lambda: HEALTHY, "/versions": lambda: version})

    def do_POST(self) -> None:
        backend = self.server.backend
        answers = {
            "/health": lambda: HEALTHY,
            "/setup": lambda: backend.setup(self._asked(), self.client_address[0]),
            "/predict": lambda: backend.predict(self._asked()),
            "/validate": lambda: {"missing": backend.check(self._asked().get("config"))},
            "/train": self._train,
        }
        self._serve(answers | dict.fromkeys(("/webhook", "/duplicate_model", "/delete"), self._nothing_to_do))

    def _serve(self, answers: dict) -> None:
        path = self.path.partition("?")[0]
        try:
            if path not in answers:
                raise Refused(HTTPStatus.NOT_FOUND, f"samseg label-studio has no {path}")
            self._check_caller(path)
            answer = answers[path]()
        except Refused as refused:
            self._refuse(refused.status, str(refused))
        except InputError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except MemoryError:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the image is too large for this machine's memory")
        except Exception as error:
            traceback.print_exc()
            self._refuse(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"samseg failed ({type(error).__name__}); its terminal says how"
            )
        else:
            kind = "text/plain; charset=utf-8" if isinstance(answer, str) else "application/json"
            content = answer if isinstance(answer, str) else json.dumps(answer)
            self._send(HTTPStatus.OK, "OK", kind, content)

    def _check_caller(self, path: str) -> None:
        """Whether the request comes from whom it may: with the token, or else from this machine and no web page."""
        token = self.server.token
        if token is None:
            named = self.headers.get("Host", "").rpartition(":")[0].strip("[]") or self.headers.get("Host", "")
            if named not in LOOPBACK:  # a page of another name that leads here
                raise Refused(HTTPStatus.FORBIDDEN, f"samseg answers on this machine alone, not as {named}; see --host")
        elif path != "/webhook":  # which Label Studio calls without, and which does nothing
            given = self.headers.get("Authorization", "").removeprefix("Basic ")
            try:
                password = base64.b64decode(given, validate=True).partition(b":")[2]
            except ValueError:
                password = b""
            if not hmac.compare_digest(password, token.encode()):
                raise Refused(HTTPStatus.UNAUTHORIZED, "give --token as the password of Basic authentication")
        if self.command == "POST" and not self.headers.get("Content-Type", "").startswith("application/json"):
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "requests must be application/json")

    def _asked(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_MB * 2**20:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"requests must have a length of at most {MOST_MB} MB")
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            raise InputError("the request is no JSON object")
        return asked

    def _train(self) -> None:
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, NO_TRAINING)

    def _nothing_to_do(self) -> dict[str, Any]:
        if self._asked().get("action") == "START_TRAINING":
            self._train()
        return {}

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Say no, on the terminal, too. Label Studio shows of an answer its status line, so the reason stands there."""
        say(f"refused: {reason}", file=sys.stderr)
        self._send(status, reason, "application/json", json.dumps({"error": reason}))

    def _send(self, status: HTTPStatus, reason: str, kind: str, content: str) -> None:
        body = content.encode()
        try:
            self.send_response(status, " ".join(reason.split()).encode("ascii", "replace").decode())
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", 'Basic realm="samseg"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            say(
                f"Label Studio did not wait for the answer to {self.path}; to make it wait longer, start it with "
                "ML_TIMEOUT_PREDICT=300 (seconds)",
                file=sys.stderr,
            )
