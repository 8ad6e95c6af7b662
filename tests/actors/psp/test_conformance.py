"""What every provider has to guarantee. The stub passes it; an adapter to a real provider has to.

An adapter brings its own `provider` and `insert_charge`, and its sandbox's names for the scenarios of the
orders.
"""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from actors import job_leases
from actors.psp import stub
from actors.psp.provider import DEADLINE_S, Answer, Line, NoAnswer, Order, Outcome, Provider, Unavailable
from db import postgres
from tests import makers

pytestmark = pytest.mark.usefixtures("database")

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)

InsertCharge = Callable[[str, datetime], None]


@pytest.fixture
def slept() -> list[float]:
    """The seconds for which a provider with a replaced clock would have waited."""
    return []


@pytest.fixture
def provider(slept: list[float]) -> Provider:
    return makers.stub(slept.append)


@pytest.fixture
def insert_charge() -> InsertCharge:
    """Insert a decision of the past into the provider's ledger."""

    def insert(key: str, moment: datetime) -> None:
        postgres.rows(
            "INSERT INTO psp.charges (idempotency_key, payment_id, amount, currency, outcome, created_at)"
            " VALUES (%s, gen_random_uuid(), 7.25, 'EUR', 'charged', %s)",
            key,
            moment,
        )

    return insert


def order(**metadata: Any) -> Order:
    id = uuid4()
    return Order(str(id), id, Decimal("12.50"), "USD", metadata)


def test_an_order_is_charged(provider: Provider):
    assert provider.charge(order()) == Answer(Outcome.CHARGED)


def test_a_decline_has_a_code(provider: Provider):
    assert provider.charge(order(simulate="decline:expired_card")) == Answer(Outcome.DECLINED, "expired_card")
    answer = provider.charge(order(simulate="decline"))
    assert answer.outcome is Outcome.DECLINED
    assert answer.code


def test_a_repeated_order_gets_the_first_decision(provider: Provider):
    declined = order(simulate="decline:lost_card")
    first = provider.charge(declined)
    # Even if the provider would now decide otherwise.
    again = Order(declined.key, declined.payment_id, declined.amount, declined.currency, {})
    assert provider.charge(again) == first
    assert len(whole_statement(provider, today())) == 1


def test_an_order_is_found_by_its_key_only(provider: Provider):
    made = order(simulate="decline:expired_card")
    assert provider.find(made.key) is None
    answer = provider.charge(made)
    assert provider.find(made.key) == answer == Answer(Outcome.DECLINED, "expired_card")
    for other in (str(uuid4()), made.key[:-1], made.key.upper(), "", "'"):
        assert provider.find(other) is None


def test_an_unanswered_call_can_be_repeated_and_charges_once(provider: Provider):
    unanswered = order(simulate="timeout")
    for _ in range(3):
        with pytest.raises(NoAnswer):
            provider.charge(unanswered)
    assert provider.find(unanswered.key) == Answer(Outcome.CHARGED)
    assert [line.reference for line in whole_statement(provider, today())] == [unanswered.key]


def test_an_unavailable_provider_has_charged_nothing(provider: Provider):
    refused = order(simulate="outage")
    with pytest.raises(Unavailable):
        provider.charge(refused)
    assert provider.find(refused.key) is None
    assert whole_statement(provider, today()) == []


def test_a_provider_that_is_available_again_charges_once(provider: Provider):
    made = order(simulate="error")
    for _ in range(2):
        with pytest.raises(Unavailable):
            provider.charge(made)
    assert provider.charge(made) == provider.charge(made) == Answer(Outcome.CHARGED)
    assert [line.reference for line in whole_statement(provider, today())] == [made.key]


def test_a_statement_has_the_decision_about_each_order(provider: Provider):
    before = now()
    paid, declined = order(), order(simulate="decline")
    provider.charge(paid)
    provider.charge(declined)

    lines = {line.reference: line for line in whole_statement(provider, today())}

    assert {key: line.outcome for key, line in lines.items()} == {
        paid.key: Outcome.CHARGED,
        declined.key: Outcome.DECLINED,
    }
    line = lines[paid.key]
    assert (line.amount, line.currency) == (paid.amount, paid.currency)
    assert before <= line.booked_at <= now()


# A part of the stub's statement has 50 lines here, and may end between two decisions of one moment.
@pytest.mark.parametrize("lines", [0, 1, 49, 50, 51, 100, 123])
def test_a_statement_has_every_line_once(
    monkeypatch, provider: Provider, insert_charge: InsertCharge, lines: int
):
    monkeypatch.setattr(stub, "_STATEMENT_LINES", 50)
    keys = [str(uuid4()) for _ in range(lines)]
    for number, key in enumerate(keys):
        insert_charge(key, MIDNIGHT + timedelta(seconds=number // 7))
    assert sorted(line.reference for line in whole_statement(provider, DAY)) == sorted(keys)


def test_a_day_of_a_statement_is_a_day_in_utc(provider: Provider, insert_charge: InsertCharge):
    moment = timedelta(microseconds=1)
    east, west = (
        datetime.fromisoformat("2026-03-02T00:30+01:00"),
        datetime.fromisoformat("2026-02-28T19:00-05:00"),
    )
    insert_charge("the evening before", MIDNIGHT - moment)
    insert_charge("first", MIDNIGHT)
    insert_charge("west of Greenwich", west)
    insert_charge("east of Greenwich", east)
    insert_charge("last", MIDNIGHT + timedelta(days=1) - moment)
    insert_charge("the morning after", MIDNIGHT + timedelta(days=1))

    lines = whole_statement(provider, DAY)

    assert {line.reference for line in lines} == {"first", "west of Greenwich", "east of Greenwich", "last"}
    assert {line.booked_at for line in lines if "Greenwich" in line.reference} == {east, west}


def whole_statement(provider: Provider, day: date) -> list[Line]:
    """Return all lines of a day, part by part."""
    lines: list[Line] = []
    part = provider.statement(day, None)
    while part.more is not None:
        lines += part.lines
        part = provider.statement(day, part.more)
    return [*lines, *part.lines]


def now() -> datetime:
    """The time by the clock of the provider."""
    [row] = postgres.rows("SELECT clock_timestamp() AS now")
    moment: datetime = row["now"]
    return moment


def today() -> date:
    return now().astimezone(UTC).date()


# An adapter brings a sandbox, or a server of its own, that does not answer these.
@pytest.mark.parametrize("simulate", ["blackout", "timeout", "late", "slow"])
def test_a_call_ends_within_its_deadline(provider: Provider, simulate: str, slept: list[float]):
    made = order(simulate=simulate)
    for call in (lambda: provider.charge(made), lambda: provider.find(made.key)):
        began = time.monotonic()
        with pytest.raises(NoAnswer) if simulate == "blackout" else contextlib.suppress(NoAnswer):
            call()
        assert time.monotonic() - began + sum(slept) < DEADLINE_S
        slept.clear()


def test_the_deadline_of_a_call_is_shorter_than_its_lease():
    assert DEADLINE_S < job_leases.LEASE_S
