"""Clients that wait for a payment keep nobody else waiting."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

import pytest

from tests.makers import until

# More than both web processes have connections to the database.
MANY = 100


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_a_hundred_waiting_clients_keep_nobody_waiting(stack, connections):
    customer = stack.customer()
    id = customer.pay(simulate="blackout")
    until(lambda: customer.status(id) == "processing")
    version = stack.http.get(f"/api/payments/{id}", headers=customer.headers).headers["ETag"]
    request = (
        f"GET /api/payments/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: {customer.headers['Authorization']}\r\n"
        f"If-None-Match: {version}\r\nPrefer: wait=10\r\nConnection: close\r\n\r\n"
    )

    def median_of_others() -> float:
        """How long other requests take: the middle one of many, in seconds."""
        durations = []
        for _ in range(20):
            began = time.monotonic()
            assert stack.http.get("/api/auth/me", headers=customer.headers).status_code == 200
            durations.append(time.monotonic() - began)
        return median(durations)

    usual = median_of_others()
    began, waiting = time.monotonic(), []
    for _ in range(MANY):
        client = connections.enter_context(socket.create_connection(("127.0.0.1", stack.port)))
        client.settimeout(60)
        client.sendall(request.encode())
        waiting.append(client)

    assert median_of_others() < 0.5 + 5 * usual
    active = "SELECT FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE '%%payments.payments%%'"
    assert len(stack.rows(active)) <= 5

    stack.rows("UPDATE payments.payments SET version = version + 1 WHERE id = %s RETURNING id", id)
    waited = time.monotonic() - began
    answers = {client.recv(12) for client in waiting}
    # A machine so loaded that ten seconds have passed lets them wait in vain.
    assert answers == {b"HTTP/1.1 200"} or (waited > 9 and answers <= {b"HTTP/1.1 200", b"HTTP/1.1 304"})
