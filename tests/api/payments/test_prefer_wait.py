"""`Prefer: wait=N`: the response waits for the settled payment."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import peewee
import pytest
from falcon.testing import Result, TestClient

from actors import jobs
from actors.psp import provider
from api.app import create_app
from api.payments import prefer_wait
from db import payments, postgres
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, visitor, work
from tests.tables import JobRow

BODY = {"type": "payment", "amount": "12.50"}


class Clock:
    """A clock that advances while a request sleeps, then runs `meanwhile`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(prefer_wait, "time", clock)
    return clock


def pay(caller: Visitor, body: dict[str, Any] = BODY, **headers: str) -> Result:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return caller.post("/payments", body, headers=sent)


def opened(vendor: Visitor) -> str:
    id = vendor.post("/payments", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    work()
    return str(id)


def summary(result: Result) -> tuple[int, str, str | None]:
    """The status of the response, the status of the payment, the Preference-Applied header."""
    return result.status_code, result.json["data"]["status"], result.headers.get("Preference-Applied")


# --- settled in time ------------------------------------------------------------------------------------


def test_a_waiting_request_gets_the_completed_payment(customer, clock):
    clock.meanwhile = work
    result = pay(customer, Prefer="wait=5")
    assert summary(result) == (201, "completed", "wait=5")
    again = customer.get(f"/payments/{result.json['data']['id']}")
    assert again.json["data"] == result.json["data"]


def test_a_waiting_request_gets_the_failed_payment_with_its_failure(customer, clock):
    clock.meanwhile = work
    result = pay(customer, {**BODY, "metadata": {"simulate": "decline:expired_card"}}, Prefer="wait=5")
    assert summary(result) == (201, "failed", "wait=5")
    assert result.json["data"]["failure"]["code"] == "expired_card"


def test_a_payment_request_is_settled_when_it_is_open(vendor, clock):
    clock.meanwhile = work
    result = pay(vendor, {"type": "initiate", "amount": "80.00"}, Prefer="wait=5")
    assert summary(result) == (201, "initiated", "wait=5")
    assert result.json["data"]["allowedActions"] == ["update", "cancel"]


def test_a_cancellation_within_the_wait_is_a_200(vendor, clock):
    for method, path, body in (("DELETE", "", None), ("POST", "/status", {"status": "cancelled"})):
        id = opened(vendor)
        clock.meanwhile = work
        result = vendor.send(method, f"/payments/{id}{path}", body, headers={"Prefer": "wait=5"})
        assert summary(result) == (200, "cancelled", "wait=5")
        assert result.json["data"]["allowedActions"] == []


def test_a_failure_by_hand_within_the_wait_is_a_200(client, vendor, clock):
    id = opened(vendor)
    clock.meanwhile = work
    admin = visitor(client, Role.ADMIN)
    result = admin.post(f"/payments/{id}/status", {"status": "failed"}, headers={"Prefer": "wait=5"})
    assert summary(result) == (200, "failed", "wait=5")


def test_a_refusal_does_not_wait(customer, vendor, clock):
    id = opened(vendor)
    clock.meanwhile = pytest.fail
    assert error(pay(customer, {"type": "payment"}, Prefer="wait=5")) == (400, "VALIDATION_ERROR")
    assert error(pay(vendor, Prefer="wait=5")) == (403, "FORBIDDEN")
    customer.post("/payments", {"type": "payment", "requestId": id})
    result = vendor.send("DELETE", f"/payments/{id}", headers={"Prefer": "wait=5"})
    assert error(result) == (409, "INVALID_TRANSITION")
    assert clock.pauses == []


# --- not settled in time --------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 5, 10])
def test_a_request_that_waited_too_long_gets_the_plain_response(customer, vendor, clock, seconds):
    plain = pay(customer)
    waited = pay(customer, Prefer=f"wait={seconds}")
    assert summary(waited) == (201, "pending", None)
    assert waited.json["data"].keys() == plain.json["data"].keys()
    assert seconds - 0.5 <= clock.now <= seconds
    # Pauses between polls are long.
    assert len(clock.pauses) <= 10 + 2 * seconds
    assert max(clock.pauses) <= 0.5

    id = opened(vendor)
    result = vendor.send("DELETE", f"/payments/{id}", headers={"Prefer": f"wait={seconds}"})
    assert summary(result) == (202, "initiated", None)


@pytest.mark.parametrize(
    ("header", "applied"),
    [
        ("wait=1", "wait=1"),
        ("wait=10", "wait=10"),
        ("wait=11", "wait=10"),
        ("wait=999999999", "wait=10"),
        ("WAIT=5", "wait=5"),
        ("wait = 5", "wait=5"),
        ('wait="5"', "wait=5"),
        ("respond-async, wait=5", "wait=5"),
        ("return=representation,wait=5;x=y,handling=lenient", "wait=5"),
        ("wait=5, wait=7", "wait=5"),
        ("wait=0, wait=5", None),
        ("wait=0", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=1e1", None),
        ("wait=soon", None),
        ("wait=", None),
        ("wait", None),
        ("await=5", None),
        ("respond-async", None),
        ("wait=٥", None),
        ('note="be quick, wait=3"', None),
        ("", None),
    ],
)
def test_prefer_wait_takes_whole_seconds_up_to_ten(customer, clock, header, applied):
    clock.meanwhile = work
    assert summary(pay(customer, Prefer=header)) == (201, "completed" if applied else "pending", applied)
    assert bool(clock.pauses) == bool(applied)


def test_other_routes_do_not_wait(customer, vendor, clock):
    id = opened(vendor)
    headers = {"Prefer": "wait=5"}
    for result in (
        customer.get(f"/payments/{id}", headers=headers),
        vendor.send("PUT", f"/payments/{id}", {"description": "x"}, headers=headers),
    ):
        assert summary(result) == (200, "initiated", None)
    assert clock.pauses == []


def test_an_accepted_payment_is_answered_when_the_database_goes_away(customer, clock, monkeypatch):
    def gone(_id: UUID) -> None:
        raise peewee.OperationalError("gone")

    clock.meanwhile = lambda: monkeypatch.setattr(payments, "get", gone)
    assert summary(pay(customer, Prefer="wait=5")) == (201, "pending", None)


# --- slots ----------------------------------------------------------------------------------------------


def test_without_a_free_slot_the_plain_response_comes_at_once(customer, clock):
    answered: list[Result] = []

    def come() -> None:
        """Each waiting request starts the next one; the one that cannot wait responds first."""
        clock.meanwhile = come
        answered.append(pay(customer, Prefer="wait=5"))
        work()

    come()
    turned_away, *seated = [summary(result) for result in answered]
    assert turned_away == (201, "pending", None)
    assert seated == [(201, "completed", "wait=5")] * prefer_wait.WAITING_REQUESTS

    clock.meanwhile = work
    assert summary(pay(customer, Prefer="wait=5")) == (201, "completed", "wait=5")


def test_a_crashed_wait_releases_its_slot(customer, clock, monkeypatch):
    def crash(_id: UUID) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(prefer_wait, "_slots", threading.BoundedSemaphore(1))
    with monkeypatch.context() as broken:
        broken.setattr(payments, "get", crash)
        assert error(pay(customer, Prefer="wait=5")) == (500, "INTERNAL_ERROR")
    clock.meanwhile = work
    assert summary(pay(customer, Prefer="wait=5")) == (201, "completed", "wait=5")


# --- with an Idempotency-Key ----------------------------------------------------------------------------


def test_the_settled_response_is_replayed(customer, clock):
    clock.meanwhile = work
    first = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert summary(first) == (201, "completed", "wait=5")
    assert "Idempotency-Replayed" not in first.headers
    for again in (pay(customer, Idempotency_Key="k"), pay(customer, Prefer="wait=5", Idempotency_Key="k")):
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"
    assert payments.Payment.select().count() == 1


def test_a_settled_cancellation_is_replayed_as_a_200(vendor, clock):
    id = opened(vendor)
    clock.meanwhile = work
    headers = {"Prefer": "wait=5", "Idempotency-Key": "k"}
    first, again = (
        vendor.post(f"/payments/{id}/status", {"status": "cancelled"}, headers=headers) for _ in range(2)
    )
    assert summary(first) == (200, "cancelled", "wait=5")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_an_unsettled_response_is_replayed(customer, clock):
    first = pay(customer, Prefer="wait=1", Idempotency_Key="k")
    work()
    again = pay(customer, Prefer="wait=1", Idempotency_Key="k")
    assert summary(first) == summary(again) == (201, "pending", None)
    assert again.content == first.content


def test_a_replay_does_not_wait(customer, clock):
    first = pay(customer, Idempotency_Key="k")
    clock.meanwhile = work
    again = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert again.content == first.content
    assert clock.pauses == []


@pytest.mark.parametrize("headers", [{"Prefer": "wait=3"}, {}])
def test_a_repeated_request_waits_for_the_first_one(customer, clock, headers):
    """The repeated request waits 3 s; in this test the first one cannot finish before that."""
    second: list[Result] = []

    def come() -> None:
        clock.meanwhile = lambda: None
        second.append(pay(customer, Idempotency_Key="k", **headers))
        work()

    clock.meanwhile = come
    first = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert error(second[0]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert summary(first) == (201, "completed", "wait=5")
    third = pay(customer, Idempotency_Key="k", **headers)
    assert third.content == first.content
    assert third.headers["Idempotency-Replayed"] == "true"
    assert payments.Payment.select().count() == 1


def test_a_repeated_request_without_a_slot_is_refused_at_once(customer, clock, monkeypatch):
    second: list[Result] = []

    def come() -> None:
        clock.meanwhile = pytest.fail
        second.append(pay(customer, Idempotency_Key="k"))
        work()

    monkeypatch.setattr(prefer_wait, "_slots", threading.BoundedSemaphore(1))
    clock.meanwhile = come
    first = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert error(second[0]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert summary(first) == (201, "completed", "wait=5")


def test_the_response_of_a_killed_process_is_finished_by_the_next_request(customer, clock, monkeypatch):
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    clock.meanwhile = die
    with pytest.raises(Killed):
        pay(customer, Prefer="wait=5", Idempotency_Key="k")
    work()
    clock.meanwhile = lambda: None
    assert error(pay(customer, Prefer="wait=5", Idempotency_Key="k")) == (409, "IDEMPOTENCY_IN_PROGRESS")
    # No request waits that long: its process has died.
    postgres.rows("UPDATE payments.idempotency_keys SET created_at = created_at - interval '16 seconds'")
    clock.meanwhile = pytest.fail
    again = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert summary(again) == (201, "completed", "wait=5")
    assert payments.Payment.select().count() == 1


# --- with other connections -----------------------------------------------------------------------------


@pytest.fixture
def committed(stores) -> Iterator[None]:
    """Committed data that is removed afterwards; only the test runs jobs on it."""
    provider.choose(makers.stub())
    yield
    makers.wipe()


def settle() -> int:
    """Run all jobs of payments. Returns their number."""
    count = 0
    with postgres.connection():
        while row := JobRow.get_or_none(JobRow.name.startswith("payments.")):
            jobs.registry[row.name].perform(row.id)
            count += 1
    return count


def in_use() -> int:
    """The number of connections taken from the pool."""
    assert postgres.database.pool
    return len(postgres.database.pool.acquired)


def test_a_waiting_request_holds_no_connection(committed, settings, monkeypatch):
    # Longer than a client may ask for: a loaded machine takes that long for the requests alone.
    monkeypatch.setattr(prefer_wait, "_MAX_WAIT_S", 600)
    client = TestClient(create_app(settings))
    caller = visitor(client)
    results: list[Result] = []
    many = 8
    waiting = [
        threading.Thread(target=lambda: results.append(pay(caller, Prefer="wait=600"))) for _ in range(many)
    ]
    for thread in waiting:
        thread.start()

    def accepted() -> int:
        with postgres.connection():
            return payments.Payment.select().count()

    makers.until(lambda: accepted() == many)
    # Between two polls no request holds a connection.
    makers.until(lambda: in_use() == 0)
    assert all(thread.is_alive() for thread in waiting)

    assert settle() == 2 * many
    for thread in waiting:
        thread.join(60)
    assert [summary(result) for result in results] == [(201, "completed", "wait=600")] * many
    assert in_use() == 0
