"""What only a socket sees: the server has no name, and no body is ever taken for the next request."""

import json
import socket
import time

import httpx
import psutil
import pytest

from api.wire import READ_DEADLINE_S

SMUGGLED = b"GET /api/SMUGGLED HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def say(stack, sent: bytes) -> list[bytes]:
    """Sends, and reads to the end of the connection; the answers, each without its `HTTP/1.1 `."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=60) as redis_client:
        redis_client.sendall(sent)
        answer = b"".join(iter(lambda: redis_client.recv(65536), b""))
    return answer.split(b"HTTP/1.1 ")[1:]


def posted(path: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body


def length(of: int) -> str:
    return f"Content-Length: {of}"


JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
LARGE = 2 * 1024 * 1024


def test_no_response_names_the_server(stack):
    for answer in (stack.http.get("/health"), stack.http.get("/api/nothing"), stack.http.head("/health")):
        assert "Server" not in answer.headers


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (401, posted("/api/auth/logout", JSON, length(len(SMUGGLED)), body=SMUGGLED)),
        (415, posted("/api/auth/login", "Content-Type: text/plain", length(len(SMUGGLED)), body=SMUGGLED)),
        (411, posted("/api/auth/login", JSON, CHUNKED, body=CHUNK)),
        (413, posted("/api/auth/login", JSON, length(LARGE), body=SMUGGLED.ljust(LARGE))),
        (404, posted("/api/nothing", JSON, length(len(SMUGGLED)), body=SMUGGLED)),
    ],
)
def test_a_refused_body_is_read_away_before_the_next_request(stack, status, request_):
    first, second = say(stack, request_ + NEXT)
    assert first.startswith(str(status).encode())
    assert second.startswith(b"200")


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        # What does not come, comes too slowly or is too much, ends the connection; so does what is no HTTP.
        (413, posted("/api/auth/login", JSON, length(LARGE), body=SMUGGLED)),
        (411, posted("/api/auth/login", JSON, CHUNKED, body=b"zz\r\n" + SMUGGLED)),
        (400, posted("/api/auth/login", JSON, length(5), CHUNKED, body=b"0\r\n\r\n" + SMUGGLED)),
        (400, posted("/api/auth/login", JSON, "Transfer-Encoding: gzip", body=SMUGGLED)),
        (400, posted("/api/auth/login", JSON, length(3), length(4), body=SMUGGLED)),
        (400, posted("/api/auth/login", "No colon", body=SMUGGLED)),
        (400, posted("/api/auth/login", "X: " + "x" * 20_000, body=SMUGGLED)),
        (400, b"NONSENSE\r\n\r\n" + SMUGGLED),
    ],
)
def test_where_the_next_request_begins_is_never_guessed(stack, status, request_):
    began = time.monotonic()
    [answer] = say(stack, request_)
    assert answer.startswith(str(status).encode())
    # Far less than the time that a client has for a request.
    assert time.monotonic() - began < READ_DEADLINE_S - 5


def test_malformed_http_is_answered_in_the_envelope(stack):
    [answer] = say(stack, b"NONSENSE\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert json.loads(body)["error"]["code"] == "VALIDATION_ERROR"
    lines = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    assert lines[b"content-length"] == str(len(body)).encode()
    assert lines[b"x-content-type-options"] == b"nosniff"
    assert lines[b"x-request-id"]
    assert b"server" not in lines


def test_a_client_that_sends_too_much_can_read_the_refusal(stack):
    for size in (LARGE, 3 * LARGE):
        answer = stack.http.post("/api/auth/login", content=b"x" * size)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_the_processes_serve_about_as_many_connections_each(stack):
    processes = psutil.Process(stack.pid("web.1")).children()
    assert len(processes) == 2
    # The middle one of three: a process that a loaded machine keeps waiting leaves connections to the other.
    _least, fewest, _most = sorted(fewest_of_sixteen(stack, processes) for _ in range(3))
    # Other tests may have left connections open that count as well.
    assert fewest >= 5


def fewest_of_sixteen(stack, processes: list[psutil.Process]) -> int:
    """How many of sixteen connections the process serves that serves fewer of them."""
    opened = [socket.create_connection(("127.0.0.1", stack.port), timeout=60) for _ in range(16)]
    try:
        for connection in opened:
            connection.sendall(b"GET /api/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536)
        ports = {connection.getsockname()[1] for connection in opened}
        served = [
            sum(bool(found.raddr) and found.raddr.port in ports for found in process.net_connections())
            for process in processes
        ]
        assert sum(served) == 16
        return min(served)
    finally:
        for connection in opened:
            connection.close()


def test_clients_that_never_close_delay_no_other(stack):
    idle = [socket.create_connection(("127.0.0.1", stack.port), timeout=60) for _ in range(8)]
    try:
        for redis_client in idle:
            redis_client.sendall(b"GET /api/nothing HTTP/1.0\r\n\r\n")
            assert redis_client.recv(65536)
        began = time.monotonic()
        with httpx.Client(base_url=str(stack.http.base_url), timeout=30) as client:
            assert client.get("/api/nothing").status_code == 404
        # Far less than the time after which the idle ones are closed.
        assert time.monotonic() - began < READ_DEADLINE_S - 5
    finally:
        for redis_client in idle:
            redis_client.close()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/zzz/metrics", ["SCRIPT_NAME: /zzz"]),
        ("/zzz/metrics", ["Script-Name: /zzz"]),
        ("/zzz/health", ["PATH_INFO: /health", "X-Forwarded-Prefix: /zzz", "X-Original-URL: /health"]),
        ("/%6detrics", []),
        ("/api%2fhealth", []),
        ("//metrics", []),
        ("/health/../metrics", []),
    ],
)
def test_no_header_of_a_peer_changes_the_path(stack, path, headers):
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    [answer] = say(stack, "\r\n".join(lines).encode())
    assert answer.startswith(b"404")


@pytest.mark.parametrize("method", ["BREW", "get", "X", "A" * 40, "WEBSOCKET"])
def test_an_unknown_method_is_a_405_with_allow(stack, method):
    request = f"{method} /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    [answer] = say(stack, request.encode())
    assert answer.startswith(b"405")
    assert b"allow: GET, HEAD" in answer
    assert b"x-request-id: " in answer


@pytest.mark.parametrize(
    "request_",
    [
        posted("/api/auth/login", JSON, CHUNKED, body=CHUNK),
        posted("/api/auth/login", JSON, length(LARGE)),
        posted("/api/auth/login", "Content-Type: text/plain", length(2), body=b"{}"),
        b"NONSENSE\r\n\r\n",
    ],
    ids=["411", "413", "415", "400"],
)
def test_every_refusal_has_an_id_of_its_request(stack, request_):
    [answer] = say(stack, request_.replace(b"Host: x", b"Host: x\r\nConnection: close"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: " in head.lower()
    assert json.loads(body)["success"] is False
