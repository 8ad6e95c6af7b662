"""An event stream goes on through every outage, ends with its session, and keeps nobody else waiting."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from api.events.feed import HEARTBEAT_S
from tests.event_schemas import check_message
from tests.flows.conftest import Stack
from tests.makers import until

MANY, MEGABYTE = 500, 1024 * 1024


class Follower:
    """A client that reads a stream, and connects again with the last id whenever it breaks off."""

    def __init__(self, stack: Stack, token: str, after: int) -> None:
        self.url, self.token = f"{stack.http.base_url}/api/events/stream", token
        self.messages: list[dict[str, Any]] = []
        self.after, self.connections, self.stopped = after, 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def ids(self) -> list[int]:
        return [message["seq"] for message in self.messages]

    def _run(self) -> None:
        while not self.stopped.is_set():
            try:
                self._read()
            except httpx.HTTPError:
                time.sleep(0.1)

    def _read(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Last-Event-ID": str(self.after)}
        with httpx.stream("GET", self.url, headers=headers, timeout=20, verify=False) as response:
            response.raise_for_status()
            self.connections += 1
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "data":
                    self.messages.append(json.loads(value))
                if name == "id":
                    self.after = int(value)
                if self.stopped.is_set():
                    return


def token_of(stack: Stack, email: str) -> str:
    body = {"email": email, "password": "Paywright-demo-1"}
    return str(stack.http.post("/api/auth/login", json=body).raise_for_status().json()["data"]["accessToken"])


@pytest.fixture
def admin(stack: Stack) -> str:
    return token_of(stack, "admin@example.com")


@pytest.fixture
def start(stack: Stack, admin: str) -> int:
    return last_seq(stack)


@pytest.fixture
def follower(stack: Stack, admin: str, start: int) -> Iterator[Follower]:
    follower = Follower(stack, admin, start)
    yield follower
    follower.stopped.set()
    # An event, which ends the wait for one.
    token_of(stack, "admin@example.com")
    follower.thread.join(60)
    assert not follower.thread.is_alive()


def last_seq(stack: Stack) -> int:
    return int(stack.rows("SELECT coalesce(max(seq), 0) AS seq FROM admin.events")[0]["seq"])


@contextmanager
def idle_streams(stack: Stack, token: str, count: int) -> Iterator[list[socket.socket]]:
    """So many streams whose heads have arrived."""
    head = f"GET /api/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    streams = []
    for _ in range(count):
        streams.append(socket.create_connection(("127.0.0.1", stack.port), timeout=30))
        streams[-1].sendall(head)
    for stream in streams:
        received = b""
        while b"retry: " not in received:
            received += stream.recv(4096)
        assert received.startswith(b"HTTP/1.1 200 ")
    yield streams
    for stream in streams:
        stream.close()


def web_processes(stack: Stack) -> list[psutil.Process]:
    web = psutil.Process(stack.pid("web.1"))
    return [web, *web.children(recursive=True)]


def test_a_stream_has_every_event_once_whatever_is_flushed_stopped_or_killed(stack, follower, start):
    customer = stack.customer()
    ids = [customer.pay() for _ in range(5)]
    stack.flush()
    ids += [customer.pay() for _ in range(5)]
    web = web_processes(stack)
    stack.kill("web.1")
    psutil.wait_procs(web, timeout=60)
    until(lambda: stack.health() == "ok")
    ids += [customer.pay() for _ in range(5)]
    stack.valkey.stop()
    began = last_seq(stack)
    ids += [customer.pay(simulate="decline") for _ in range(5)]
    # Without Redis, from the log.
    until(lambda: follower.after > began)
    stack.valkey.start()
    customer.settled(ids)
    until(lambda: stack.rows("SELECT count(*) AS n FROM journal.jobs")[0]["n"] == 0, 240)
    # An earlier test may cause one more at any moment.
    last = last_seq(stack)
    until(lambda: follower.after >= last)
    assert follower.connections >= 2
    assert follower.ids[: last - start] == list(range(start + 1, last + 1))
    # A payment of an earlier test may end at this moment, too.
    ended = [
        message["data"]["id"]
        for message in follower.messages
        if message["type"].endswith(("completed", "failed")) and message["data"]["id"] in ids
    ]
    assert sorted(ended) == sorted(ids)
    for message in follower.messages:
        check_message(message)


def test_an_idle_stream_ends_soon_after_its_session(stack):
    customer = stack.customer()
    with idle_streams(stack, customer.headers["Authorization"].partition(" ")[2], 1) as [stream]:
        stack.http.post("/api/auth/logout", json={}, headers=customer.headers).raise_for_status()
        # Before the next heartbeat, however loaded the machine is.
        stream.settimeout(HEARTBEAT_S - 3)
        while stream.recv(4096):
            pass


def test_five_hundred_idle_streams_cost_little_and_stop_with_the_process(stack, admin):
    before = sum(process.memory_info().rss for process in web_processes(stack))
    threads = sum(process.num_threads() for process in web_processes(stack))
    with idle_streams(stack, admin, MANY) as streams:
        assert sum(process.memory_info().rss for process in web_processes(stack)) - before < 150 * MEGABYTE
        # Those of the pool that connects to the database.
        assert sum(process.num_threads() for process in web_processes(stack)) - threads < 30
        # Each has what happens now. With a connection or a place each, they would leave none for others.
        paid = stack.customer().pay().encode()
        for stream in streams:
            received = b""
            while paid not in received:
                received += stream.recv(65536)
        web = psutil.Process(stack.pid("web.1"))
        web.terminate()
        began = time.monotonic()
        for stream in streams:
            while stream.recv(65536):
                pass
        # Far less than the twenty seconds that a process has to stop.
        assert time.monotonic() - began < 10
    # It answers until it has ended.
    web.wait(60)
    until(lambda: stack.health() == "ok")
