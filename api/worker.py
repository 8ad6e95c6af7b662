"""gunicorn's threaded worker as the door wants it: nameless, in our envelope, patient after a refusal."""

import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

import falcon
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from api.gateway import envelope
from api.gateway.headers import DEFAULTS
from api.gateway.request_id import HEADER
from db.fault import Code

# What an unread body may still send after a refusal, and for how many seconds: a client that is cut off while
# it sends may never read the answer. What lies beyond closes the connection, so nothing of a body is ever
# taken for the next request.
_LARGEST_REST = 8 * 1024 * 1024
_LONGEST_REST = 2.0

# gunicorn lets no setting change the class that it answers with.
_named = wsgi.Response.default_headers


def _nameless(self: Any) -> list[str]:
    return [line for line in _named(self) if not line.startswith("Server:")]


wsgi.Response.default_headers = _nameless


class Worker(ThreadWorker):  # type: ignore[misc]
    """Named in `api/gunicorn.py`."""

    def handle(self, conn: Any) -> Any:
        """Serves a request; a connection that is not kept is closed here.

        gunicorn would do that in its main thread, and wait there for up to two seconds for the client to hang
        up: four clients that do not would stop all others for eight.
        """
        conn.rest_is_read = False
        goes_on = super().handle(conn)
        if not goes_on:
            with suppress(OSError):
                conn.close(graceful=not conn.rest_is_read)
            conn.close = _closed
        return goes_on

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        deadline = time.monotonic() + _LONGEST_REST
        # What is wrong with the rest of an answered request is not worth a second answer.
        with suppress(ParseException, OSError):
            conn.rest_is_read = conn.parser.finish_body(deadline=deadline, max_bytes=_LARGEST_REST)
        return bool(keepalive and conn.rest_is_read)

    def handle_error(self, _req: Any, client: Any, _addr: Any, exc: BaseException) -> None:
        """Answers what never reached the application: it is no HTTP, or the application broke."""
        ours = isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName)
        if isinstance(exc, ParseException) and not ours:
            self.log.warning("not HTTP: %s", type(exc).__name__)
            answer = _answer(Code.VALIDATION_ERROR, "The request is malformed.")
        else:
            self.log.error("a request crashed outside the application", exc_info=exc)
            answer = _answer(Code.INTERNAL_ERROR, "Something went wrong on our side.")
        try:
            write_nonblock(client, answer)
        except OSError:
            self.log.debug("the client is gone")


def _closed(*, graceful: bool = False) -> None:
    """The closing of what is closed."""


def _answer(code: Code, message: str) -> bytes:
    resp = falcon.Response()
    envelope.refuse(resp, code, message)
    body = resp.data or b""
    headers = DEFAULTS | {
        HEADER: str(uuid4()),
        "Content-Type": falcon.MEDIA_JSON,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [
        f"HTTP/1.1 {resp.status_code} {'Bad Request' if resp.status_code == 400 else 'Internal Server Error'}"
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
