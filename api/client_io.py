"""Reads requests from slow clients: every read has a deadline, and what is not read is discarded.

Used by the web worker (api/worker.py), in greenlets: what waits here costs no thread.
"""

import random
import select
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import IO, Any

from gevent import monkey
from gunicorn.http.errors import ParseException
from gunicorn.http.unreader import SocketUnreader

from api.middleware import body_limit

# How long a request with its body may take to arrive, from its first byte; and how long a new connection may
# stay silent.
READ_DEADLINE_S = 15.0
# Deadlines differ by up to this much: clients that arrived together must not all be answered at once.
_READ_DEADLINE_JITTER_S = 1.0
# How long a client may take to accept one piece of a response.
WRITE_DEADLINE_S = 10.0
# How often a connection without a request checks whether the worker is stopping.
_IDLE_POLL_S = 1.0

# How much of a body is read, and for how long, after a response that did not need it: a client whose
# connection ends while it sends may never read the response. A longer body closes the connection, so that no
# part of it is taken for the next request.
MAX_DISCARDED_BYTES = 8 * 1024 * 1024
DISCARD_TIMEOUT_S = 2.0

# A larger body is kept in a file: five hundred slow ones of a megabyte each do not fit in memory.
_MAX_BODY_IN_MEMORY_BYTES = 64 * 1024


# gevent's would wait in the event loop, and tells nothing of a closed end. Only Linux does.
_new_poller = monkey.get_original("select", "poll")
_HUNG_UP = getattr(select, "POLLRDHUP", 0)


class RequestTimeout(Exception):
    """A request did not arrive before its deadline."""

    def __init__(self, request_id: str = "") -> None:
        super().__init__()
        # The X-Request-ID that the client sent, if its head arrived.
        self.request_id = request_id


def new_read_deadline() -> float:
    """Returns the deadline of a request that begins now."""
    return time.monotonic() + READ_DEADLINE_S + random.random() * _READ_DEADLINE_JITTER_S


def has_hung_up(client: Any) -> bool:
    """Tells whether the other end of a socket is closed, without waiting."""
    poller = _new_poller()
    poller.register(client.fileno(), _HUNG_UP)
    return bool(poller.poll(0))


class DeadlineReader(SocketUnreader):  # type: ignore[misc]
    """Reads from a socket until `deadline`, which all reads share: one byte at a time extends nothing."""

    deadline = 0.0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Returns the next bytes. Raises TimeoutError."""
        return self._read_until(self.deadline, size_hint)

    def wait_for_request(self, deadline: float, may_continue: Callable[[], bool]) -> bool:
        """Waits for the first byte of a request. Raises TimeoutError.

        Returns False when the client hangs up, or when `may_continue` says so while nothing has arrived.
        """
        while not self.buf.tell():
            poll_until = min(deadline, time.monotonic() + _IDLE_POLL_S)
            try:
                data = self._read_until(poll_until)
            except TimeoutError:
                if poll_until == deadline:
                    raise
                if not may_continue():
                    return False
            else:
                if not data:
                    return False
                self.unread(data)
        return True

    def _read_until(self, deadline: float, size_hint: int | None = None) -> bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the client is too slow")
        self.sock.settimeout(left_s)
        try:
            data: bytes = super().chunk(size_hint)
        finally:
            self.sock.settimeout(WRITE_DEADLINE_S)
        return data


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
    except TimeoutError:
        file.close()
        raise RequestTimeout(environ.get("HTTP_X_REQUEST_ID", "")) from None
    except BaseException:
        file.close()
        raise
    return file


def discard_body(body: Any) -> bool:
    """Reads the rest of a body that the response did not need; whether all of it was read."""
    # After an error nobody knows where the next request begins. It needs no second response.
    with suppress(ParseException, OSError):
        discarded = 0
        while not body.failed and discarded <= MAX_DISCARDED_BYTES:
            piece = body.read(_MAX_BODY_IN_MEMORY_BYTES)
            if not piece:
                return True
            discarded += len(piece)
    return False
