"""A store that freezes, or refuses to write, keeps nobody waiting, ends no process, and loses nothing."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2

from tests.flows.conftest import Customer, Stack
from tests.frozen import frozen
from tests.makers import until

PAYMENT = {"type": "payment", "amount": "10.00"}
# Three seconds are due; a loaded machine gets two more, besides what it takes while the stores are there.
LATEST_S = 5.0


def pids(stack: Stack) -> dict[str, int]:
    return dict(json.loads((stack.directory / "pids.json").read_text()))


def refused(customer: Customer, path: str) -> float:
    """How long a request took to be refused for want of a database, in seconds."""
    begun, http = time.monotonic(), customer.stack.http
    if path == "/api/payments":
        answer = http.post(path, json=PAYMENT, headers=customer.headers)
    else:
        answer = http.get(path, headers=customer.headers)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    return time.monotonic() - begun


def usual(customer: Customer, path: str) -> float:
    """How long a request takes while the stores are there, in seconds."""
    begun = time.monotonic()
    customer.stack.http.get(path, headers=customer.headers).raise_for_status()
    return time.monotonic() - begun


def well(stack: Stack, customer: Customer) -> None:
    """It is as before, without a restart of anything."""
    until(lambda: stack.health() == "ok")
    assert customer.settled([customer.pay()]) == ["completed"]


def test_a_frozen_database_is_a_503_for_everybody_until_it_answers_again(stack: Stack):
    customer = stack.customer()
    before, paid = pids(stack), [customer.pay() for _ in range(3)]
    paths = ["/api/payments", "/api/auth/me"] * 45
    with ThreadPoolExecutor(len(paths)) as clients:
        latest = LATEST_S + 2 * max(clients.map(lambda path: usual(customer, path), paths))
        with frozen(stack.postgres):
            first = list(clients.map(lambda path: refused(customer, path), paths))
            again = list(clients.map(lambda path: refused(customer, path), paths))
            until(lambda: stack.health() == "down")
    assert max(first) < latest
    assert max(again) < latest
    well(stack, customer)
    assert set(customer.settled(paid)) == {"completed"}
    assert pids(stack) == before


def test_a_read_only_database_is_a_503_for_everybody_until_it_is_writable_again(stack: Stack):
    customer = stack.customer()
    before, paid = pids(stack), [customer.pay() for _ in range(3)]
    latest = LATEST_S + 2 * usual(customer, "/api/payments")
    operator = psycopg2.connect(stack.postgres.url)
    operator.autocommit = True
    cursor = operator.cursor()
    # As after a failover, or when a host's disk is full.
    cursor.execute("ALTER DATABASE paywright SET default_transaction_read_only = on")
    try:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        for path in ("/api/payments", "/api/auth/me") * 2:
            assert refused(customer, path) < latest
        until(lambda: stack.health() == "down")
    finally:
        cursor.execute("ALTER DATABASE paywright RESET default_transaction_read_only")
        operator.close()
    well(stack, customer)
    assert set(customer.settled(paid)) == {"completed"}
    assert pids(stack) == before


def test_a_frozen_redis_delays_requests_a_moment_and_loses_no_payment(stack: Stack):
    customer = stack.customer()

    def pay() -> tuple[list[str], float]:
        """Payments, and how long it took to make them, in seconds."""
        begun = time.monotonic()
        return [customer.pay() for _ in range(20)], time.monotonic() - begun

    paid, usually_took = pay()
    customer.settled(paid)
    with frozen(stack.valkey):
        paid, took = pay()
        until(lambda: stack.health() == "degraded")
        assert stack.http.get("/health").json()["services"]["redis"] == "down"
    # They were twenty seconds when limit and push waited half a second each.
    assert took - usually_took < 10
    until(lambda: stack.health() == "ok")
    assert set(customer.settled(paid)) == {"completed"}
