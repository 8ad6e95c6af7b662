"""Five hundred clients of each slow kind keep nobody else waiting, with no proxy in front."""

import resource
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median

import httpx
import pytest

from api.wire import READ_DEADLINE_S, WRITE_DEADLINE_S

MANY, PIPELINES = 500, 100

HEAD = (
    b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n"
)
LARGE = b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"

KINDS = {
    "half a head": HEAD[:40],
    "half a body": HEAD + b"X-Request-ID: mine\r\nOrigin: http://localhost:5173\r\n\r\n{",
    "nothing": b"",
}
# Much less on a machine with nothing else to do; with a thread a client every answer took until the slow ones
# were gone. Of the answers the middle one: a loaded machine may keep a single one waiting.
HEALTH_S = READ_DEADLINE_S / 3


@pytest.fixture
def descriptors():
    """As many as this process may have: a client here is one, and so it is in each web process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def connect(stack, descriptors):
    """Connects, sends, and closes at the end."""
    opened = []

    def made(sent: bytes, **options: int) -> socket.socket:
        connection = socket.socket()
        opened.append(connection)
        for name, value in options.items():
            connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", stack.port))
        if sent:
            connection.sendall(sent)
        return connection

    yield made
    for connection in opened:
        connection.close()


def ended(
    connections: list[socket.socket], *, within: float, meanwhile: Callable[[], object]
) -> dict[socket.socket, bytes]:
    """What each was received before it was closed."""
    received = dict.fromkeys(connections, b"")
    deadline = time.monotonic() + within
    with selectors.DefaultSelector() as waiting:
        for connection in connections:
            waiting.register(connection, selectors.EVENT_READ, data=connection)
        while waiting.get_map():
            assert time.monotonic() < deadline, f"{len(waiting.get_map())} are open still"
            for key, _ in waiting.select(0.2):
                piece = key.data.recv(65536)
                received[key.data] += piece
                if not piece:
                    waiting.unregister(key.data)
                    key.data.close()
            meanwhile()
    return received


def test_slow_and_silent_clients_get_a_408_and_delay_no_other(stack, connect):
    began = time.monotonic()
    slow = {kind: [connect(sent) for _ in range(MANY)] for kind, sent in KINDS.items()}
    unread = [connect(LARGE * 50, SO_RCVBUF=4096) for _ in range(PIPELINES)]
    # It goes on sending header lines: that is no progress.
    drip = connect(HEAD)
    slow["a drip"] = [drip]
    kept = connect(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    requests: list[tuple[float, float]] = []
    with httpx.Client(base_url=str(stack.http.base_url), timeout=30) as client:

        def ask() -> None:
            if requests and time.monotonic() - requests[-1][0] < 0.3:
                return
            with suppress(OSError):
                drip.sendall(b"X: y\r\n")
            asked = time.monotonic()
            assert client.get("/health").status_code == 200
            requests.append((time.monotonic(), time.monotonic() - asked))

        received = ended(
            [kept, *(connection for connections in slow.values() for connection in connections)],
            within=READ_DEADLINE_S * 8,
            meanwhile=ask,
        )
    assert time.monotonic() - began > READ_DEADLINE_S - 1
    assert len(requests) >= 3
    assert median(took for _, took in requests) < HEALTH_S
    for kind, connections in slow.items():
        answers = {received[connection].partition(b"\r\n")[0] for connection in connections}
        assert answers == {b"HTTP/1.1 408 Request Timeout"}, kind
        assert all(b'"code":"REQUEST_TIMEOUT"' in received[connection] for connection in connections)
        assert all(b"Connection: close" in received[connection] for connection in connections)
    assert all(b"X-Request-ID: mine" in received[connection] for connection in slow["half a body"])
    # The page of an allowed origin may read which error it is.
    allowed = b"Access-Control-Allow-Origin: http://localhost:5173\r\n"
    assert all(allowed in received[connection] for connection in slow["half a body"])
    # A connection that is idle after a response is closed without another one.
    assert received[kept].startswith(b"HTTP/1.1 200 ")
    assert received[kept].count(b"HTTP/1.1 ") == 1
    # Nobody reads these answers to their end: their connections are gone as well.
    for connection in unread:
        connection.settimeout(WRITE_DEADLINE_S * 3)
        with pytest.raises(OSError):  # noqa: PT011
            while True:
                connection.sendall(LARGE)
