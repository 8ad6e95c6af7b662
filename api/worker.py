"""The web worker: a greenlet for each connection, a thread for each request that is complete.

What waits for a client (a head, a body, an answer that is not read) costs no thread, and has a time limit.
The application runs in ordinary threads: nothing is monkey-patched, so it need not know. No answer names the
server, and what is no HTTP is answered in our envelope.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any

import falcon
from gevent import socket
from gevent.event import Event
from gevent.threadpool import ThreadPool
from gunicorn.http import get_parser, wsgi
from gunicorn.http.errors import (
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    NoMoreData,
    ParseException,
)
from gunicorn.http.unreader import SocketUnreader
from gunicorn.util import close_graceful
from gunicorn.workers.ggevent import GeventWorker

from api.http import envelope
from api.middleware import body_limit, request_context
from api.middleware.security_headers import DEFAULTS
from db.core.errors import ErrorCode

# How long a head with its body may take, counted from its first byte; and a new connection, to say anything.
READ_DEADLINE_S = 15.0
# By how much it differs from one to the next: those who came at once must not all be answered at once.
_READ_SPREAD_S = 1.0
# How long a client may take to accept one piece of an answer.
WRITE_DEADLINE_S = 10.0
# How much of an answer the kernel holds for a client that does not read: the next request waits for the rest.
_SEND_BUFFER = 128 * 1024
# How often a connection without a request in hand looks whether the worker is stopping.
_IDLE_LOOK_S = 1.0

# What an unread body may still send after a refusal, and for how many seconds: a client that is cut off while
# it sends may never read the answer. What lies beyond closes the connection, so nothing of a body is ever
# taken for the next request.
_LARGEST_REST = 8 * 1024 * 1024
_LONGEST_REST_S = 2.0

# How long a request waits for another one with its Idempotency-Key, in seconds; after that it is up to the
# application, which refuses it where it still has no answer.
_SAME_KEY_WAIT_S = 3.0

# Larger bodies wait in a file: five hundred slow ones of a megabyte each are not to be had in memory.
_LARGEST_IN_MEMORY = 64 * 1024

Answer = Iterable[bytes]

# gunicorn lets no setting change the class that it answers with.
_named = wsgi.Response.default_headers


def _nameless(self: Any) -> list[str]:
    return [line for line in _named(self) if not line.startswith("Server:")]


wsgi.Response.default_headers = _nameless


class _Late(Exception):
    """A request was not complete in time; what its sender calls it."""


def _read_deadline() -> float:
    return time.monotonic() + READ_DEADLINE_S + random.random() * _READ_SPREAD_S


class _Reader(SocketUnreader):  # type: ignore[misc]
    """Reads from a socket until a deadline that holds for all its reads together: a drip is no progress."""

    deadline = 0.0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes. Raises TimeoutError."""
        return self._until(self.deadline, size_hint)

    def first(self, end: float, going_on: Callable[[], bool]) -> bool:
        """Waits for a request's first byte; False when the client hangs up or there is no going on. Raises
        TimeoutError."""
        while not self.buf.tell():
            look = min(end, time.monotonic() + _IDLE_LOOK_S)
            try:
                data = self._until(look)
            except TimeoutError:
                if look == end:
                    raise
                if not going_on():
                    return False
            else:
                if not data:
                    return False
                self.unread(data)
        return True

    def _until(self, deadline: float, size_hint: int | None = None) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        self.sock.settimeout(left)
        try:
            data: bytes = super().chunk(size_hint)
        finally:
            self.sock.settimeout(WRITE_DEADLINE_S)
        return data


class Worker(GeventWorker):  # type: ignore[misc]
    """Named in `api/gunicorn.py`."""

    sockets: list[Any]
    wsgi: Callable[..., Answer]

    def patch(self) -> None:
        """Makes gevent's sockets of the listening ones, and leaves everything else as it is."""
        self.sockets = [
            socket.socket(one.FAMILY, socket.SOCK_STREAM, fileno=one.sock.detach()) for one in self.sockets
        ]

    def load_wsgi(self) -> None:
        """Puts the application behind the threads."""
        super().load_wsgi()
        self._application = self.wsgi
        self._threads = ThreadPool(self.cfg.threads)
        self._keys_in_hand: dict[tuple[str, ...], Event] = {}
        self.wsgi = self._in_a_thread

    def _in_a_thread(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Answer:
        """Calls the application once the whole body is there."""
        with _whole_body(environ) as content, self._after_the_same_key(environ):
            environ["wsgi.input"] = content
            answer: Answer = self._threads.apply(self._application, (environ, start_response))
        return answer

    @contextmanager
    def _after_the_same_key(self, environ: dict[str, Any]) -> Iterator[None]:
        """Lets one request of a client with one `Idempotency-Key` go first. Those that come meanwhile wait
        here, where they hold neither a thread nor a connection, and find its answer: of fifty at once most
        would have no thread to wait in, while the first one waits for the actors (`Prefer: wait`).

        Only the wait is here: what makes it safe, also from other processes, is in the database.
        """
        key = environ.get("HTTP_IDEMPOTENCY_KEY")
        if not key:
            yield
            return
        same = (key, environ.get("HTTP_AUTHORIZATION", ""), environ["PATH_INFO"])
        if first := self._keys_in_hand.get(same):
            first.wait(_SAME_KEY_WAIT_S)
            yield
            return
        answered = self._keys_in_hand[same] = Event()
        try:
            yield
        finally:
            del self._keys_in_hand[same]
            answered.set()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serves the requests of one connection, one after the other, and closes it."""
        client.settimeout(WRITE_DEADLINE_S)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        nothing_unread = False
        try:
            nothing_unread = self._serve(listener.getsockname(), client, addr)
        except NoMoreData:
            self.log.debug("the client hung up in the middle of a request")
        except _Late as late:
            self.log.debug("a request was not complete in time")
            self._refuse(
                client, ErrorCode.REQUEST_TIMEOUT, "The request was not complete in time.", str(late)
            )
        except OSError as error:
            self.log.debug("the client is gone: %s", type(error).__name__)
        except Exception as error:
            self.handle_error(None, client, addr, error)
        finally:
            if nothing_unread:
                with suppress(OSError):
                    client.close()
            else:
                close_graceful(client, timeout=_LONGEST_REST_S, max_drain=_LARGEST_REST)

    def _serve(self, name: Any, client: Any, addr: Any) -> bool:
        """Serves until the connection is to be closed; whether nothing of it is left unread."""
        parser = get_parser(self.cfg, client, addr)
        reader = parser.unreader = _Reader(client)
        idle_until = _read_deadline()
        goes_on = True
        while goes_on:
            try:
                if not reader.first(idle_until, lambda: self.alive):
                    return True
                reader.deadline = _read_deadline()
                request = next(parser)
            except TimeoutError:
                if parser.mesg is not None and not reader.buf.tell():
                    # It was answered before, and asks nothing more.
                    return True
                raise _Late from None
            try:
                self.handle_request(name, request, client, addr)
            except StopIteration:
                goes_on = False
            reader.deadline = time.monotonic() + _LONGEST_REST_S
            if not _rest_is_read(parser, reader.deadline):
                return False
            idle_until = time.monotonic() + self.cfg.keepalive
        return True

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: BaseException) -> None:
        """Answers what never reached the application: it is no HTTP, or the application broke."""
        ours = isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName)
        if isinstance(exc, ParseException) and not ours:
            self.log.warning("not HTTP: %s", type(exc).__name__)
            self._refuse(client, ErrorCode.VALIDATION_ERROR, "The request is malformed.")
        else:
            self.log.error("a request crashed outside the application", exc_info=exc)
            self._refuse(client, ErrorCode.INTERNAL_ERROR, "Something went wrong on our side.")

    def _refuse(self, client: Any, code: ErrorCode, message: str, offered_id: str = "") -> None:
        try:
            client.sendall(_refusal(code, message, offered_id))
        except OSError:
            self.log.debug("the client is gone")


def _whole_body(environ: dict[str, Any]) -> IO[bytes]:
    """The body, read to its end; empty where the application refuses it by its headers. Raises _Late."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > body_limit.max_body_bytes(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
        return BytesIO()
    if "HTTP_TRANSFER_ENCODING" in environ or not length:
        return BytesIO()
    source = environ["wsgi.input"]
    try:
        if length <= _LARGEST_IN_MEMORY:
            return BytesIO(source.read(length))
        return _in_a_file(source)
    except TimeoutError:
        raise _Late(environ.get("HTTP_X_REQUEST_ID", "")) from None


def _in_a_file(source: Any) -> IO[bytes]:
    # Not before so much is there: a file for each of five hundred clients that send no more than the first
    # bytes held everybody else up for seconds.
    file = tempfile.SpooledTemporaryFile(_LARGEST_IN_MEMORY)  # noqa: SIM115
    try:
        while piece := source.read(_LARGEST_IN_MEMORY):
            file.write(piece)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _rest_is_read(parser: Any, deadline: float) -> bool:
    # What is wrong with the rest of an answered request is not worth a second answer.
    with suppress(ParseException, OSError):
        return bool(parser.finish_body(deadline=deadline, max_bytes=_LARGEST_REST))
    return False


def _refusal(code: ErrorCode, message: str, offered_id: str) -> bytes:
    head, content = _written(code, message)
    return f"{head}{request_context.HEADER}: {request_context.chosen(offered_id)}\r\n\r\n".encode() + content


@cache
def _written(code: ErrorCode, message: str) -> tuple[str, bytes]:
    status = envelope.STATUS_BY_CODE[code]
    resp = falcon.Response()
    envelope.refuse(resp, code, message)
    content = resp.data or b""
    headers = DEFAULTS | {
        "Content-Type": falcon.MEDIA_JSON,
        "Content-Length": str(len(content)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, ""]), content
