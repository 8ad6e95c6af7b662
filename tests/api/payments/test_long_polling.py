"""GET /payments/:id with `If-None-Match` and `Prefer: wait=N` waits for another version."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from falcon.testing import Result, TestClient

from actors.psp import provider
from api.app import create_app
from api.http.operation import IS_AWAITED
from api.operations import request_counts
from api.payments import prefer_wait
from db import postgres
from db.users import Role
from tests import makers
from tests.api.payments.test_prefer_wait import Clock
from tests.counting import counted
from tests.makers import Visitor, error, visitor, work


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(prefer_wait, "time", clock)
    monkeypatch.setattr(prefer_wait, "time", clock)
    monkeypatch.setattr(prefer_wait, "_watches", prefer_wait.Watches())
    return clock


def pay(caller: Visitor) -> str:
    return str(caller.post("/payments", {"type": "payment", "amount": "12.50"}).json["data"]["id"])


def wait(caller: Visitor, id: str, version: str = '"1"', prefer: str = "wait=5", **more: Any) -> Result:
    headers = {"If-None-Match": version, "Prefer": prefer}
    return caller.get(f"/payments/{id}", headers=headers, **more)


def test_the_next_version_is_returned(customer, clock):
    id = pay(customer)
    clock.meanwhile = work
    result = wait(customer, id)
    assert (result.status_code, result.json["data"]["status"]) == (200, "completed")
    assert result.headers["ETag"] == '"3"'
    assert result.headers["Preference-Applied"] == "wait=5"
    assert clock.now < 0.1


def test_without_a_change_the_response_is_a_304(customer, clock):
    result = wait(customer, pay(customer))
    assert (result.status_code, result.content) == (304, b"")
    assert result.headers["Preference-Applied"] == "wait=5"
    assert 4.9 < clock.now < 5.1
    assert len(clock.pauses) < 25


@pytest.mark.parametrize("version", ['"2"', "*", "1", ""])
def test_a_request_with_another_version_does_not_wait(customer, clock, version):
    result = wait(customer, pay(customer), version)
    assert result.status_code == (304 if version == "*" else 200)
    assert "Preference-Applied" not in result.headers
    assert clock.pauses == []


def test_it_ends_when_the_payment_becomes_invisible(customer, vendor, clock):
    body = {"type": "initiate", "amount": 5, "customerEmail": customer.user["email"]}
    id = vendor.post("/payments", body).json["data"]["id"]
    readdressed = {"customerEmail": "another@example.com"}
    clock.meanwhile = lambda: vendor.send("PUT", f"/payments/{id}", readdressed)
    assert error(wait(customer, id)) == (404, "NOT_FOUND")
    assert clock.now < 1


def test_it_ends_with_the_session(customer, clock):
    id = pay(customer)
    clock.meanwhile = lambda: customer.post("/auth/logout", {"everywhere": True})
    result = wait(customer, id)
    assert error(result) == (401, "UNAUTHORIZED")
    assert result.json["error"]["details"]["reason"] == "token_revoked"
    assert clock.now < 1


def test_it_ends_with_the_account(customer, admin, clock):
    id = pay(customer)
    account = f"/admin/users/{customer.user['id']}"
    clock.meanwhile = lambda: admin.send("PUT", account, {"active": False})
    assert error(wait(customer, id)) == (401, "UNAUTHORIZED")
    assert clock.now < 1


def test_it_ends_with_the_role(client, customer, admin, clock):
    id = pay(customer)
    other = visitor(client, Role.ADMIN)
    demoted = {"role": "CUSTOMER"}
    clock.meanwhile = lambda: admin.send("PUT", f"/admin/users/{other.user['id']}/role", demoted)
    assert error(wait(other, id)) == (404, "NOT_FOUND")
    assert clock.now < 1


def test_it_ends_when_the_client_hangs_up_or_the_process_stops(customer, clock):
    answers = iter([True, True, False])
    result = wait(customer, pay(customer), extras={IS_AWAITED: lambda: next(answers)})
    assert result.status_code == 304
    assert clock.now < 0.1


def test_too_many_do_not_wait(customer, clock, monkeypatch):
    monkeypatch.setattr(prefer_wait, "MAX_WAITING", 0)
    assert wait(customer, pay(customer)).status_code == 304
    assert clock.pauses == []


def test_the_time_of_waiting_is_no_duration_of_a_request(customer, clock, monkeypatch):
    durations: list[float] = []
    id = pay(customer)
    monkeypatch.setattr(
        request_counts, "count", lambda *_args, duration_s, **_more: durations.append(duration_s)
    )
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    wait(customer, id)
    assert durations == [pytest.approx(0, abs=0.01)]


# --- many at once ---------------------------------------------------------------------------------------


@pytest.fixture
def committed(stores) -> Iterator[None]:
    """Committed data that is removed afterwards."""
    provider.choose(makers.stub())
    yield
    makers.wipe()


def test_many_share_what_is_read_and_hold_no_connection(committed, settings, monkeypatch):
    # Longer than a client may ask for: a loaded machine takes that long for the requests alone.
    monkeypatch.setattr(prefer_wait, "_MAX_WAIT_S", 600)
    client = TestClient(create_app(settings))
    caller = visitor(client)
    ids = [pay(caller) for _ in range(3)]
    many, results = 30, []
    waiting = [
        threading.Thread(target=lambda id=ids[n % 3]: results.append(wait(caller, id, prefer="wait=600")))
        for n in range(many)
    ]
    for thread in waiting:
        thread.start()
    makers.until(lambda: prefer_wait._watches._requests.total() == many)
    assert postgres.database.pool
    acquired = postgres.database.pool.acquired
    makers.until(lambda: not acquired)
    began = time.monotonic()
    with counted() as asked:
        makers.until(lambda: len(asked.statements) >= 10)
    assert time.monotonic() - began > 9 * prefer_wait._FRESH_S
    assert all(thread.is_alive() for thread in waiting)
    with postgres.connection():
        work()
    for thread in waiting:
        thread.join(60)
    assert [result.status_code for result in results] == [200] * many
    assert prefer_wait._watches._read == {}
