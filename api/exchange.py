"""A request and its response on the wire: what the application gets, and what its client receives.

gunicorn's own classes do the same for any server and any application. These do it for ours, in a third of the
time: a head that has the usual form is parsed at once, and a response is one write.
"""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from typing import Any

from gunicorn.http.message import Request as AnyRequest
from gunicorn.util import unquote_to_wsgi_str

_BASE_ENVIRON = {
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
    "SCRIPT_NAME": "",
}

# A head of the usual form: nothing that another server could read in another way. gunicorn parses the others.
_USUAL_HEAD = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS) (/(?!/)[!-\"$->@-~]*)(?:\?([!-\"$-~]*))? HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]+:[\t -~]*\r\n)+)\r\n"
)
_FIELD = re.compile(r"([^:]+):(.*)\r\n")
_MAX_USUAL_HEAD_BYTES = 4000
_MAX_USUAL_FIELDS = 50
_UNUSUAL_FIELDS = frozenset({"TRANSFER-ENCODING", "EXPECT", "UPGRADE", "TE", "TRAILER"})


class BrokenResponse(Exception):
    """The body could not be read to its end, after its head was sent."""


# Statuses of responses without a body.
_WITHOUT_BODY = ("204", "304")


class Request(AnyRequest):  # type: ignore[misc]
    """A parsed head. `body` reads what follows it."""

    def parse(self, unreader: Any) -> bytes:
        """Parses the head; returns what was received after it."""
        received = bytearray()
        self.read_into(unreader, received, stop=True)
        rest = self._parse_usual(bytes(received))
        if rest is None:
            rest = self._parse_python(unreader, received)
        return rest

    def _parse_usual(self, received: bytes) -> bytes | None:
        head = _USUAL_HEAD.match(received, 0, _MAX_USUAL_HEAD_BYTES)
        if head is None:
            return None
        headers = [
            (name.upper(), value.strip(" \t")) for name, value in _FIELD.findall(head[4].decode("latin-1"))
        ]
        names = {name for name, _ in headers}
        if len(names) < len(headers) or len(headers) > _MAX_USUAL_FIELDS or names & _UNUSUAL_FIELDS:
            return None
        self.method, self.path = head[1].decode(), head[2].decode()
        self.query, self.fragment = (head[3] or b"").decode(), ""
        self.uri = f"{self.path}?{self.query}" if head[3] is not None else self.path
        self.version, self.headers = (1, 1), headers
        return received[head.end() :]

    def environ(self, server: Any, client: Any) -> dict[str, Any]:
        """Returns the WSGI environment. `server` and `client` are addresses of sockets."""
        path = self.path
        environ = _BASE_ENVIRON | {
            "REQUEST_METHOD": self.method,
            "RAW_URI": self.uri,
            "PATH_INFO": unquote_to_wsgi_str(path) if "%" in path else path,
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": f"HTTP/{self.version[0]}.{self.version[1]}",
            "wsgi.input": self.body,
        }
        # On a Unix socket nobody has an address.
        environ["REMOTE_ADDR"] = client[0] if isinstance(client, tuple) else ""
        environ["SERVER_NAME"], environ["SERVER_PORT"] = (
            (server[0], str(server[1])) if isinstance(server, tuple) else ("localhost", "")
        )
        for name, value in self.headers:
            key = name.replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ


class Response:
    """A response of the application."""

    def __init__(self, request: Request, *, keep_alive: bool) -> None:
        self._request = request
        self.keep_alive = keep_alive and not request.should_close()
        self._status = ""
        self._headers: list[tuple[str, str]] = []

    def start(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        """WSGI's `start_response`."""
        self._status, self._headers = status, headers

    def send(self, client: Any, body: Iterable[bytes]) -> None:
        """Sends all of it. Raises OSError."""
        try:
            without_body = self._request.method == "HEAD" or self._status.startswith(_WITHOUT_BODY)
            head = self._head(without_body)
            if without_body:
                client.sendall(head)
            elif isinstance(body, list):
                client.sendall(head + b"".join(body))
            else:
                client.sendall(head)
                for piece in _unbroken(body):
                    client.sendall(piece)
        finally:
            if hasattr(body, "close"):
                body.close()

    def _head(self, without_body: bool) -> bytes:
        if not without_body and not any(name == "content-length" for name, _ in self._headers):
            # Only the end of the connection says where the body ends.
            self.keep_alive = False
        lines = [
            f"HTTP/{self._request.version[0]}.{self._request.version[1]} {self._status}",
            f"Date: {_date(int(time.time()))}",
            f"Connection: {'keep-alive' if self.keep_alive else 'close'}",
            *[f"{name}: {value}" for name, value in self._headers],
        ]
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
            # The name and the value may be secret.
            raise ValueError("a header has a line break")
        return f"{head}\r\n\r\n".encode("latin-1")


def _unbroken(body: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from body
    except Exception as error:
        raise BrokenResponse from error


_date_of: tuple[int, str] = (0, "")


def _date(now: int) -> str:
    global _date_of
    if _date_of[0] != now:
        _date_of = now, formatdate(now, usegmt=True)
    return _date_of[1]
