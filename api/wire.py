"""A request and its response on the wire: what the application gets, and what its client receives.

gunicorn's own classes do the same for any server and any application. These do it for ours, in a third of the
time: a head that has the usual form is parsed at once, and most responses are one write. Every read has a
deadline, and what is not read is discarded. The code runs in greenlets: a client that is waited for costs no
thread.
"""

import random
import re
import select
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from io import BytesIO
from typing import IO, Any

from gevent import monkey
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request as AnyRequest
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import unquote_to_wsgi_str

from api.middleware import body_limit

# How long a request with its body may take to arrive, from its first byte; and how long a new connection may
# stay silent.
READ_DEADLINE_S = 15.0
# Deadlines differ by up to this much: clients that arrived together must not all be answered at once.
_READ_DEADLINE_JITTER_S = 1.0
# How long a client may take to accept one piece of a response, and the largest piece. `sendall` has one
# deadline for all that it is given: in one piece, a response of a megabyte never reached a slow client whole.
WRITE_DEADLINE_S, MAX_WRITE_BYTES = 10.0, 64 * 1024
# How often a connection without a request checks whether the worker is stopping.
_IDLE_POLL_S = 1.0

# How much of a body is read, and for how long, after a response that did not need it: a client whose
# connection ends while it sends may never read the response. A longer body closes the connection, so that no
# part of it is taken for the next request.
MAX_DISCARDED_BYTES = 8 * 1024 * 1024
DISCARD_TIMEOUT_S = 2.0

# A larger body is kept in a file: five hundred slow ones of a megabyte each do not fit in memory.
_MAX_BODY_IN_MEMORY_BYTES = 64 * 1024

# The kernel's poll: gevent's would wait in the event loop, and does not report that the other end is closed.
# Only Linux has the flag for it.
_new_poller = monkey.get_original("select", "poll")
_HUNG_UP = getattr(select, "POLLRDHUP", 0)


class RequestTimeout(TimeoutError):
    """A request did not arrive before its deadline."""

    # The X-Request-ID and the Origin that the client sent, if its head arrived.
    request_id = origin = ""


def new_read_deadline() -> float:
    """Returns the deadline of a request that begins now."""
    return time.monotonic() + READ_DEADLINE_S + random.random() * _READ_DEADLINE_JITTER_S


def has_hung_up(client: Any) -> bool:
    """Returns whether the other end of a socket is closed, without waiting."""
    poller = _new_poller()
    poller.register(client.fileno(), _HUNG_UP)
    return bool(poller.poll(0))


class DeadlineReader(SocketUnreader):  # type: ignore[misc]
    """Reads from a socket until `deadline`, which all reads share: one byte at a time extends nothing."""

    deadline = 0.0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Returns the next bytes. Raises RequestTimeout."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise RequestTimeout
        self.sock.settimeout(left_s)
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            raise RequestTimeout from None
        finally:
            self.sock.settimeout(WRITE_DEADLINE_S)
        return data

    def wait_for_request(self, deadline: float, may_continue: Callable[[], bool]) -> bool:
        """Waits for the first byte of a request. Raises RequestTimeout.

        Returns False when the client hangs up, or when `may_continue` says so while nothing has arrived.
        """
        while not self.buf.tell():
            self.deadline = min(deadline, time.monotonic() + _IDLE_POLL_S)
            try:
                data = self.chunk()
            except RequestTimeout:
                if self.deadline == deadline:
                    raise
                if not may_continue():
                    return False
            else:
                if not data:
                    return False
                self.unread(data)
        return True


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
        """Parses a head of the usual form; returns what was received after it. None for any other head."""
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

    def environ(self, server_address: Any, client_address: Any) -> dict[str, Any]:
        """Returns the WSGI environment. An address is a tuple, or a path for a Unix socket."""
        path = self.path
        environ = _BASE_ENVIRON | {
            "REQUEST_METHOD": self.method,
            "RAW_URI": self.uri,
            "PATH_INFO": unquote_to_wsgi_str(path) if "%" in path else path,
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": f"HTTP/{self.version[0]}.{self.version[1]}",
            "wsgi.input": self.body,
        }
        environ["REMOTE_ADDR"] = client_address[0] if isinstance(client_address, tuple) else ""
        environ["SERVER_NAME"], environ["SERVER_PORT"] = (
            (server_address[0], str(server_address[1]))
            if isinstance(server_address, tuple)
            else ("localhost", "")
        )
        for name, value in self.headers:
            key = name.replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ


def read_body(environ: dict[str, Any]) -> IO[bytes]:
    """Reads the whole body; returns an empty one where the application refuses it by its headers.

    Raises RequestTimeout.
    """
    length = int(environ.get("CONTENT_LENGTH") or 0)
    too_large = length > body_limit.max_body_bytes(environ["REQUEST_METHOD"], environ["PATH_INFO"])
    if too_large or "HTTP_TRANSFER_ENCODING" in environ or not length:
        return BytesIO()
    # The file is created only when that many bytes have arrived: one for each of five hundred clients that
    # send nothing more stalled all other requests for seconds.
    file = tempfile.SpooledTemporaryFile(_MAX_BODY_IN_MEMORY_BYTES)  # noqa: SIM115
    try:
        while piece := environ["wsgi.input"].read(_MAX_BODY_IN_MEMORY_BYTES):
            file.write(piece)
        file.seek(0)
    except BaseException as error:
        file.close()
        if isinstance(error, RequestTimeout):
            error.request_id = environ.get("HTTP_X_REQUEST_ID", "")
            error.origin = environ.get("HTTP_ORIGIN", "")
        raise
    return file


def discard_body(body: Any) -> bool:
    """Reads the rest of a body that the response did not need. Returns whether the body ended."""
    # After an error it is unknown where the next request begins. The response has been sent already.
    with suppress(ParseException, OSError):
        discarded = 0
        while not body.failed and discarded <= MAX_DISCARDED_BYTES:
            piece = body.read(_MAX_BODY_IN_MEMORY_BYTES)
            if not piece:
                return True
            discarded += len(piece)
    return False


class BrokenResponse(Exception):
    """The body could not be read to its end, after its head was sent."""


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
        """Sends the head and the body. Raises OSError, or BrokenResponse when the body cannot be read."""
        try:
            without_body = self._request.method == "HEAD" or self._status.startswith(("204", "304"))
            head = self._head(without_body)
            if without_body:
                client.sendall(head)
            elif isinstance(body, list):
                content = head + b"".join(body)
                for start in range(0, len(content), MAX_WRITE_BYTES):
                    client.sendall(content[start : start + MAX_WRITE_BYTES])
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
            # The message has neither the name nor the value, which may be secret.
            raise ValueError("a header has a line break")
        return f"{head}\r\n\r\n".encode("latin-1")


def _unbroken(body: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from body
    except Exception as error:
        raise BrokenResponse from error


@lru_cache(1)
def _date(now: int) -> str:
    return formatdate(now, usegmt=True)
