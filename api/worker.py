"""The web worker: a greenlet for each connection, in which the application runs, too.

Waiting for a client (to send a request, to read a response) has a deadline. A limited number of requests
executes at once; the others wait in their greenlets, without a database connection. The processes of one
machine share the connections about evenly. Responses do not name the server, and what is not HTTP is answered
in the error envelope. See decision 34.
"""

import mmap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http.errors import ParseException
from gunicorn.util import close_graceful
from gunicorn.workers.ggevent import GeventWorker

from api import wire
from api.http import admission, responses
from api.http.operation import IS_AWAITED
from api.middleware import request_context
from api.middleware.cors import Cors
from api.middleware.security_headers import SECURITY_HEADERS
from db.core.errors import ErrorCode

# How much of a response the kernel buffers for a client that does not read: its next request waits for the
# rest.
_SEND_BUFFER_BYTES = 128 * 1024

# How long a request waits for another one with its Idempotency-Key. After that the application decides; it
# refuses the request where the other still has no response.
_SAME_KEY_WAIT_S = 3.0

# How often gunicorn's master sees that the process is alive, and how often a stopping one looks for requests.
_HEARTBEAT_S, _STOPPING_POLL_S = 1.0, 0.1

# Twice the largest WEB_CONCURRENCY: a process that stops runs beside its successor for a while.
MAX_PROCESSES = 128

# A process that has more connections than another leaves a new one to the other, and looks again after a
# moment. The other may be busy or frozen: where no other process accepts one for so long, this process does.
_LOOK_AGAIN_AFTER_S, _LEAVE_AT_MOST_S = 0.001, 0.1

ResponseBody = Iterable[bytes]


class OpenConnections:
    """How many connections each process has, in memory that the processes share: made before the fork.

    The kernel wakes all processes for a new connection, and the first one gets it. Under load that is often
    the same one: it had all sixteen connections of a client while the other process had none.
    """

    _ABSENT = -1

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, MAX_PROCESSES * 4)).cast("i")
        self._accepted = memoryview(mmap.mmap(-1, MAX_PROCESSES * 8)).cast("Q")
        for place in range(MAX_PROCESSES):
            self._counts[place] = self._ABSENT

    def take_place(self) -> int:
        """Returns the place of a new process. A process without a free place shares the last one."""
        free = (place for place in range(MAX_PROCESSES) if self._counts[place] == self._ABSENT)
        place = next(free, MAX_PROCESSES - 1)
        self._counts[place] = 0
        return place

    def leave_place(self, place: int) -> None:
        self._counts[place] = self._ABSENT

    def opened(self, place: int) -> None:
        self._counts[place] += 1
        self._accepted[place] += 1

    def closed(self, place: int) -> None:
        self._counts[place] -= 1

    def accepted_elsewhere(self, place: int) -> int:
        """Returns how many connections the other processes have ever accepted."""
        return sum(self._accepted) - self._accepted[place]

    def is_ahead(self, place: int) -> bool:
        """Returns whether another process has clearly fewer connections."""
        fewest = min((count for count in self._counts if count != self._ABSENT), default=0)
        return self._counts[place] > fewest + fewest // 8


open_connections = OpenConnections()


class Server(StreamServer):  # type: ignore[misc]
    """Accepts connections of one socket for one process."""

    # How many connections are accepted when the socket is ready: with one, the processes take turns.
    max_accept = 1

    def __init__(self, worker: "Worker", listener: Any) -> None:
        super().__init__(listener, partial(worker.handle, listener), spawn=Pool(worker.worker_connections))
        self._place = worker.place
        # Since when connections are left to others, and how many those had accepted then.
        self._leaving_since = 0.0
        self._accepted_elsewhere = -1

    def do_read(self) -> Any:
        """Accepts a connection, unless another process should."""
        if open_connections.is_ahead(self._place) and self._may_leave_one():
            self.stop_accepting()
            self._timer = self.loop.timer(_LOOK_AGAIN_AFTER_S)
            self._timer.start(self._start_accepting_if_started)
            return None
        return super().do_read()

    def _may_leave_one(self) -> bool:
        now, accepted = time.monotonic(), open_connections.accepted_elsewhere(self._place)
        if accepted != self._accepted_elsewhere:
            self._leaving_since, self._accepted_elsewhere = now, accepted
        return now - self._leaving_since < _LEAVE_AT_MOST_S


class Worker(GeventWorker):  # type: ignore[misc]
    """The worker class that api/gunicorn.py names."""

    sockets: list[Any]
    # The place of this process in `open_connections`, taken before the fork.
    place: int
    # Which pages may read a response that the application does not make.
    cors: Cors
    wsgi: Callable[..., ResponseBody]

    def patch(self) -> None:
        """Turns the listening sockets into gevent's; `api/__main__.py` has patched the rest."""
        self.sockets = [
            socket.socket(listener.FAMILY, socket.SOCK_STREAM, fileno=listener.sock.detach())
            for listener in self.sockets
        ]

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self._keys_in_progress: dict[tuple[str, ...], Event] = {}
        # gunicorn looks each setting up by name, twenty times a request.
        values = {name: setting.get() for name, setting in self.cfg.settings.items()}
        self._settings = SimpleNamespace(
            **values, is_ssl=False, forwarded_allow_networks=self.cfg.forwarded_allow_networks
        )

    def _execute(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> ResponseBody:
        """Calls the application once the whole body has arrived and it is the request's turn."""
        with wire.read_body(environ) as content, self._after_same_key(environ), admission.executing():
            environ["wsgi.input"] = content
            return self.wsgi(environ, start_response)

    @contextmanager
    def _after_same_key(self, environ: dict[str, Any]) -> Iterator[None]:
        """Lets the first request of a client with one `Idempotency-Key` go before the others.

        The others wait here, without a slot and without a connection, and then find its response. If they
        waited in the application, fifty of them would take every slot while the first one waits for the
        actors (`Prefer: wait`). This wait is an optimisation: the database makes idempotency safe, across
        processes too.
        """
        key = environ.get("HTTP_IDEMPOTENCY_KEY")
        if not key:
            yield
            return
        same_request = (key, environ.get("HTTP_AUTHORIZATION", ""), environ["PATH_INFO"])
        if first := self._keys_in_progress.get(same_request):
            first.wait(_SAME_KEY_WAIT_S)
            yield
            return
        answered = self._keys_in_progress[same_request] = Event()
        try:
            yield
        finally:
            del self._keys_in_progress[same_request]
            answered.set()

    def run(self) -> None:
        """Accepts connections until the process is to stop; then lets the requests finish."""
        servers = [Server(self, listener) for listener in self.sockets]
        for server in servers:
            server.start()
        while self.alive:
            self.notify()
            gevent.sleep(_HEARTBEAT_S)
        for server in servers:
            server.close()
        ends_at = time.monotonic() + self._settings.graceful_timeout
        while any(len(server.pool) for server in servers) and time.monotonic() < ends_at:
            self.notify()
            gevent.sleep(_STOPPING_POLL_S)
        for server in servers:
            server.stop(timeout=1)

    def handle(self, listener: Any, client: Any, client_address: Any) -> None:
        """Serves the requests of one connection one after the other, then closes it."""
        open_connections.opened(self.place)
        nothing_unread = False
        try:
            client.settimeout(wire.WRITE_DEADLINE_S)
            # Raises OSError on some systems if the connection has ended already.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            nothing_unread = self._serve(client, listener.getsockname(), client_address)
        except wire.RequestTimeout as timeout:
            self.log.debug("a request did not arrive in time")
            self._send_error(client, ErrorCode.REQUEST_TIMEOUT, timeout.request_id, timeout.origin)
        except OSError as error:
            # gunicorn's NoMoreData is one: the client hung up during a request.
            self.log.debug("the client is gone: %s", type(error).__name__)
        except wire.BrokenResponse as error:
            self.log.error("a response broke off", exc_info=error)
        except ParseException as error:
            self.log.warning("not HTTP: %s", type(error).__name__)
            self._send_error(client, ErrorCode.VALIDATION_ERROR)
        except Exception as error:
            self.log.error("a request crashed outside the application", exc_info=error)
            self._send_error(client, ErrorCode.INTERNAL_ERROR)
        finally:
            if nothing_unread:
                with suppress(OSError):
                    client.close()
            else:
                # Closing with unread data resets the connection, and the client may lose the response.
                close_graceful(client, timeout=wire.DISCARD_TIMEOUT_S, max_drain=wire.MAX_DISCARDED_BYTES)
            open_connections.closed(self.place)

    def _serve(self, client: Any, server_address: Any, client_address: Any) -> bool:
        """Serves requests until the connection ends. Returns whether all that the client sent was read."""
        reader = wire.DeadlineReader(client)
        idle_until = wire.new_read_deadline()
        number = 0
        while True:
            number += 1
            try:
                if not reader.wait_for_request(idle_until, lambda: self.alive):
                    return True
            except wire.RequestTimeout:
                if number > 1:
                    # A kept-alive connection without another request ends without a response.
                    return True
                raise
            reader.deadline = wire.new_read_deadline()
            request = wire.Request(self._settings, reader, client_address, number)
            keep_alive = self._respond(request, client, server_address, client_address)
            reader.deadline = time.monotonic() + wire.DISCARD_TIMEOUT_S
            if not wire.discard_body(request.body):
                return False
            if not keep_alive:
                return True
            idle_until = time.monotonic() + self._settings.keepalive

    def _respond(self, request: wire.Request, client: Any, server_address: Any, client_address: Any) -> bool:
        """Calls the application and sends its response. Returns whether the connection is kept open."""
        if request._expected_100_continue:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        response = wire.Response(request, keep_alive=self.alive)
        environ = request.environ(server_address, client_address)
        environ[IS_AWAITED] = lambda: self.alive and not wire.has_hung_up(client)
        response.send(client, self._execute(environ, response.start))
        return response.keep_alive

    def _send_error(self, client: Any, code: ErrorCode, offered_id: str = "", origin: str = "") -> None:
        """Sends the response to a request that never reached the application."""
        head, content = _error_response(code)
        headers = request_context.new_ids(offered_id) | self.cors.headers(origin)
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        try:
            client.sendall("".join([head, *lines, "\r\n"]).encode() + content)
        except OSError:
            self.log.debug("the client is gone")


@cache
def _error_response(code: ErrorCode) -> tuple[str, bytes]:
    """Returns the head, without the request id and the empty line, and the body."""
    status, content = responses.STATUS_BY_CODE[code], responses.failure(code)
    headers = SECURITY_HEADERS | {
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, ""]), content
