"""`Prefer: wait=N`: who wants to wait gets the payment as it is when it is settled."""

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
from db import job_journal, payments, postgres
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, visitor, work

WISH = {"type": "payment", "amount": "12.50"}


class Clock:
    """The time of whoever waits: it passes while they sleep, and then something happens."""

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


def pay(who: Visitor, wish: dict[str, Any] = WISH, **headers: str) -> Result:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return who.post("/payments", wish, headers=sent)


def opened(vendor: Visitor) -> str:
    id = vendor.post("/payments", {"type": "initiate", "amount": "80.00"}).json["data"]["id"]
    work()
    return str(id)


def told(result: Result) -> tuple[int, str, str | None]:
    """The status of the answer, that of the payment, and whether the wish to wait was granted."""
    return result.status_code, result.json["data"]["status"], result.headers.get("Preference-Applied")


# --- settled in time ------------------------------------------------------------------------------------


def test_who_waits_gets_the_completed_payment(customer, clock):
    clock.meanwhile = work
    result = pay(customer, Prefer="wait=5")
    assert told(result) == (201, "completed", "wait=5")
    again = customer.get(f"/payments/{result.json['data']['id']}")
    assert again.json["data"] == result.json["data"]


def test_who_waits_gets_the_failed_payment_and_why(customer, clock):
    clock.meanwhile = work
    result = pay(customer, {**WISH, "metadata": {"simulate": "decline:expired_card"}}, Prefer="wait=5")
    assert told(result) == (201, "failed", "wait=5")
    assert result.json["data"]["failure"]["code"] == "expired_card"


def test_a_request_is_settled_when_it_can_be_paid(vendor, clock):
    clock.meanwhile = work
    result = pay(vendor, {"type": "initiate", "amount": "80.00"}, Prefer="wait=5")
    assert told(result) == (201, "initiated", "wait=5")
    assert result.json["data"]["allowedActions"] == ["update", "cancel"]


def test_what_is_cancelled_within_the_wait_is_a_200(vendor, clock):
    for method, path, body in (("DELETE", "", None), ("POST", "/status", {"status": "cancelled"})):
        id = opened(vendor)
        clock.meanwhile = work
        result = vendor.send(method, f"/payments/{id}{path}", body, headers={"Prefer": "wait=5"})
        assert told(result) == (200, "cancelled", "wait=5")
        assert result.json["data"]["allowedActions"] == []


def test_what_is_failed_by_hand_within_the_wait_is_a_200(client, vendor, clock):
    id = opened(vendor)
    clock.meanwhile = work
    boss = visitor(client, Role.ADMIN)
    result = boss.post(f"/payments/{id}/status", {"status": "failed"}, headers={"Prefer": "wait=5"})
    assert told(result) == (200, "failed", "wait=5")


def test_a_refusal_does_not_wait(customer, vendor, clock):
    id = opened(vendor)
    clock.meanwhile = pytest.fail
    assert error(pay(customer, {"type": "payment"}, Prefer="wait=5")) == (400, "VALIDATION_ERROR")
    assert error(pay(vendor, Prefer="wait=5")) == (403, "FORBIDDEN")
    customer.post("/payments", {"type": "payment", "requestId": id})
    result = vendor.send("DELETE", f"/payments/{id}", headers={"Prefer": "wait=5"})
    assert error(result) == (409, "INVALID_TRANSITION")
    assert clock.pauses == []


# --- or not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 5, 10])
def test_who_has_waited_long_enough_gets_the_plain_answer(customer, vendor, clock, seconds):
    plain = pay(customer)
    waited = pay(customer, Prefer=f"wait={seconds}")
    assert told(waited) == (201, "pending", None)
    assert waited.json["data"].keys() == plain.json["data"].keys()
    assert seconds - 0.5 <= clock.now <= seconds
    # Who waits asks seldom.
    assert len(clock.pauses) <= 10 + 2 * seconds
    assert max(clock.pauses) <= 0.5

    id = opened(vendor)
    result = vendor.send("DELETE", f"/payments/{id}", headers={"Prefer": f"wait={seconds}"})
    assert told(result) == (202, "initiated", None)


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
def test_only_a_number_of_seconds_is_a_wish_to_wait_and_ten_are_the_most(customer, clock, header, applied):
    clock.meanwhile = work
    assert told(pay(customer, Prefer=header)) == (201, "completed" if applied else "pending", applied)
    assert bool(clock.pauses) == bool(applied)


def test_other_routes_do_not_wait(customer, vendor, clock):
    id = opened(vendor)
    headers = {"Prefer": "wait=5"}
    for result in (
        customer.get(f"/payments/{id}", headers=headers),
        vendor.send("PUT", f"/payments/{id}", {"description": "x"}, headers=headers),
    ):
        assert told(result) == (200, "initiated", None)
    assert clock.pauses == []


def test_what_was_accepted_is_accepted_though_the_database_goes_away(customer, clock, monkeypatch):
    def gone(_id: UUID) -> None:
        raise peewee.OperationalError("gone")

    clock.meanwhile = lambda: monkeypatch.setattr(payments, "get", gone)
    assert told(pay(customer, Prefer="wait=5")) == (201, "pending", None)


# --- seats ----------------------------------------------------------------------------------------------


def test_when_all_seats_are_taken_the_plain_answer_comes_at_once(customer, clock):
    answered: list[Result] = []

    def come() -> None:
        """Whoever waits sees the next one come; who does not wait is the first to be answered."""
        clock.meanwhile = come
        answered.append(pay(customer, Prefer="wait=5"))
        work()

    come()
    turned_away, *seated = [told(result) for result in answered]
    assert turned_away == (201, "pending", None)
    assert seated == [(201, "completed", "wait=5")] * prefer_wait.WAITING_REQUESTS

    clock.meanwhile = work
    assert told(pay(customer, Prefer="wait=5")) == (201, "completed", "wait=5")


def test_whoever_leaves_early_leaves_their_seat(customer, clock, monkeypatch):
    def crash(_id: UUID) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(prefer_wait, "_slots", threading.BoundedSemaphore(1))
    with monkeypatch.context() as broken:
        broken.setattr(payments, "get", crash)
        assert error(pay(customer, Prefer="wait=5")) == (500, "INTERNAL_ERROR")
    clock.meanwhile = work
    assert told(pay(customer, Prefer="wait=5")) == (201, "completed", "wait=5")


# --- with an Idempotency-Key ----------------------------------------------------------------------------


def test_the_settled_answer_is_the_one_that_is_given_again(customer, clock):
    clock.meanwhile = work
    first = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert told(first) == (201, "completed", "wait=5")
    assert "Idempotency-Replayed" not in first.headers
    for again in (pay(customer, Idempotency_Key="k"), pay(customer, Prefer="wait=5", Idempotency_Key="k")):
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"
    assert payments.Payment.select().count() == 1


def test_a_settled_change_of_status_is_given_again_as_the_200_that_it_was(vendor, clock):
    id = opened(vendor)
    clock.meanwhile = work
    headers = {"Prefer": "wait=5", "Idempotency-Key": "k"}
    first, again = (
        vendor.post(f"/payments/{id}/status", {"status": "cancelled"}, headers=headers) for _ in range(2)
    )
    assert told(first) == (200, "cancelled", "wait=5")
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"


def test_an_answer_that_was_not_settled_in_time_is_the_one_that_is_given_again(customer, clock):
    first = pay(customer, Prefer="wait=1", Idempotency_Key="k")
    work()
    again = pay(customer, Prefer="wait=1", Idempotency_Key="k")
    assert told(first) == told(again) == (201, "pending", None)
    assert again.content == first.content


def test_an_answer_that_was_given_before_the_wish_to_wait_stays(customer, clock):
    first = pay(customer, Idempotency_Key="k")
    clock.meanwhile = work
    again = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert again.content == first.content
    assert clock.pauses == []


@pytest.mark.parametrize("headers", [{"Prefer": "wait=3"}, {}])
def test_who_comes_while_the_first_one_waits_is_given_no_other_answer(customer, clock, headers):
    """It waits as for a lock; here the first one cannot go on before it has given up."""
    second: list[Result] = []

    def come() -> None:
        clock.meanwhile = lambda: None
        second.append(pay(customer, Idempotency_Key="k", **headers))
        work()

    clock.meanwhile = come
    first = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert error(second[0]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert told(first) == (201, "completed", "wait=5")
    third = pay(customer, Idempotency_Key="k", **headers)
    assert third.content == first.content
    assert third.headers["Idempotency-Replayed"] == "true"
    assert payments.Payment.select().count() == 1


def test_who_comes_while_all_seats_are_taken_waits_for_no_first_one(customer, clock, monkeypatch):
    second: list[Result] = []

    def come() -> None:
        clock.meanwhile = pytest.fail
        second.append(pay(customer, Idempotency_Key="k"))
        work()

    monkeypatch.setattr(prefer_wait, "_slots", threading.BoundedSemaphore(1))
    clock.meanwhile = come
    first = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert error(second[0]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert told(first) == (201, "completed", "wait=5")


def test_who_died_waiting_has_left_an_answer_behind(customer, clock, monkeypatch):
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
    # Nobody waits that long: it is dead.
    postgres.rows("UPDATE payments.idempotency_keys SET created_at = created_at - interval '16 seconds'")
    clock.meanwhile = pytest.fail
    again = pay(customer, Prefer="wait=5", Idempotency_Key="k")
    assert told(again) == (201, "completed", "wait=5")
    assert payments.Payment.select().count() == 1


# --- with other connections -----------------------------------------------------------------------------


@pytest.fixture
def committed(stores) -> Iterator[None]:
    """Data that is really committed, and cleaned up; nobody works on it but the test."""
    provider.choose(makers.stub())
    yield
    makers.wipe()


def settle() -> int:
    """Does the promised work that is about payments; how much it was."""
    count = 0
    with postgres.connection():
        while row := job_journal.JobRow.get_or_none(job_journal.JobRow.name.startswith("payments.")):
            jobs.registry[row.name].perform(row.id)
            count += 1
    return count


def in_use() -> int:
    """How many connections of the pool somebody holds."""
    assert postgres.database.pool
    return len(postgres.database.pool.acquired)


def test_who_waits_holds_no_connection(committed, settings):
    client = TestClient(create_app(settings))
    who = visitor(client)
    results: list[Result] = []
    many = 8
    waiting = [
        threading.Thread(target=lambda: results.append(pay(who, Prefer="wait=10"))) for _ in range(many)
    ]
    for thread in waiting:
        thread.start()

    def accepted() -> int:
        with postgres.connection():
            return payments.Payment.select().count()

    makers.until(lambda: accepted() == many, 10)
    # Between two questions there is a moment, again and again, in which nobody has one.
    makers.until(lambda: in_use() == 0, 5)
    assert all(thread.is_alive() for thread in waiting)

    assert settle() == 3 * many
    for thread in waiting:
        thread.join(20)
    assert [told(result) for result in results] == [(201, "completed", "wait=10")] * many
    assert in_use() == 0


# --- another version ------------------------------------------------------------------------------------


def look(who: Visitor, id: str, version: str, wait: str = "wait=5") -> Result:
    return who.get(f"/payments/{id}", headers={"If-None-Match": version, "Prefer": wait})


def test_who_has_this_version_waits_for_another(customer, clock):
    first = pay(customer)
    clock.meanwhile = work
    result = look(customer, first.json["data"]["id"], '"1"')
    assert told(result) == (200, "completed", "wait=5")
    assert result.headers["ETag"] == '"3"'


def test_after_so_many_seconds_nothing_has_changed(customer, clock):
    first = pay(customer)
    result = look(customer, first.json["data"]["id"], '"1"')
    assert (result.status_code, result.content) == (304, b"")
    assert result.headers["Preference-Applied"] == "wait=5"
    assert 4.9 < clock.now < 5.1


@pytest.mark.parametrize("version", ['"2"', "*", "1", ""])
def test_nobody_waits_who_does_not_have_this_version(customer, clock, version):
    result = look(customer, pay(customer).json["data"]["id"], version)
    assert result.status_code == (304 if version == "*" else 200)
    assert "Preference-Applied" not in result.headers
    assert clock.pauses == []


def test_who_waits_is_told_when_the_thing_is_not_theirs_any_more(customer, vendor, clock):
    request = vendor.post(
        "/payments", {"type": "initiate", "amount": 5, "customerEmail": customer.user["email"]}
    ).json["data"]["id"]

    def readdress() -> None:
        vendor.send("PUT", f"/payments/{request}", {"customerEmail": "another@example.com"})

    clock.meanwhile = readdress
    assert error(look(customer, request, '"1"')) == (404, "NOT_FOUND")


def test_where_too_many_wait_nothing_has_changed_at_once(customer, clock, monkeypatch):
    monkeypatch.setattr(prefer_wait, "_slots", threading.BoundedSemaphore(1))
    id = pay(customer).json["data"]["id"]
    with prefer_wait._slots:
        result = look(customer, id, '"1"')
    assert result.status_code == 304
    assert clock.pauses == []
