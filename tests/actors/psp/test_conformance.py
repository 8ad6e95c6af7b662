"""What any provider behind the seam has to keep. The stub is run through it; an adapter to a real one would be.

An adapter brings its own `provider` and `book`, and its sandbox's own words for what these orders simulate.
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
from actors.psp.provider import DEADLINE_S, Answer, Line, NoAnswer, Order, Outcome, Provider, Unavailable
from db import postgres
from tests import makers

pytestmark = pytest.mark.usefixtures("database")

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)

Book = Callable[[str, datetime], None]


@pytest.fixture
def slept() -> list[float]:
    """For how many seconds a provider that plays its waiting would have waited."""
    return []


@pytest.fixture
def provider(slept: list[float]) -> Provider:
    return makers.stub(slept.append)


@pytest.fixture
def book() -> Book:
    """Lets the provider have decided about an order at some moment of the past."""

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


def test_an_order_given_again_is_answered_as_the_first_time(provider: Provider):
    declined = order(simulate="decline:lost_card")
    first = provider.charge(declined)
    # Even if the provider would decide otherwise by now.
    again = Order(declined.key, declined.payment_id, declined.amount, declined.currency, {})
    assert provider.charge(again) == first
    assert len(whole_statement(provider, today())) == 1


def test_what_was_ordered_is_found_by_its_key_and_nothing_else_is(provider: Provider):
    made = order(simulate="decline:expired_card")
    assert provider.find(made.key) is None
    answer = provider.charge(made)
    assert provider.find(made.key) == answer == Answer(Outcome.DECLINED, "expired_card")
    for other in (str(uuid4()), made.key[:-1], made.key.upper(), "", "'"):
        assert provider.find(other) is None


def test_a_call_that_was_not_answered_may_be_made_again_and_charges_once(provider: Provider):
    unheard = order(simulate="timeout")
    for _ in range(3):
        with pytest.raises(NoAnswer):
            provider.charge(unheard)
    assert provider.find(unheard.key) == Answer(Outcome.CHARGED)
    assert [line.key for line in whole_statement(provider, today())] == [unheard.key]


def test_what_was_unavailable_has_charged_nothing(provider: Provider):
    refused = order(simulate="outage")
    with pytest.raises(Unavailable):
        provider.charge(refused)
    assert provider.find(refused.key) is None
    assert whole_statement(provider, today()) == []


def test_what_was_unavailable_and_is_back_charges_once(provider: Provider):
    made = order(simulate="error")
    for _ in range(2):
        with pytest.raises(Unavailable):
            provider.charge(made)
    assert provider.charge(made) == provider.charge(made) == Answer(Outcome.CHARGED)
    assert [line.key for line in whole_statement(provider, today())] == [made.key]


def test_a_statement_says_of_an_order_what_was_decided(provider: Provider):
    before = now()
    paid, declined = order(), order(simulate="decline")
    provider.charge(paid)
    provider.charge(declined)

    lines = {line.key: line for line in whole_statement(provider, today())}

    assert {key: line.outcome for key, line in lines.items()} == {
        paid.key: Outcome.CHARGED,
        declined.key: Outcome.DECLINED,
    }
    line = lines[paid.key]
    assert (line.amount, line.currency) == (paid.amount, paid.currency)
    assert before <= line.booked_at <= now()


# The stub's pages have 500 lines; and of what was decided in one moment a page may end in the middle.
@pytest.mark.parametrize("lines", [0, 1, 499, 500, 501, 1000, 1234])
def test_a_statement_is_complete_and_says_nothing_twice(provider: Provider, book: Book, lines: int):
    keys = [str(uuid4()) for _ in range(lines)]
    for place, key in enumerate(keys):
        book(key, MIDNIGHT + timedelta(seconds=place // 7))
    assert sorted(line.key for line in whole_statement(provider, DAY)) == sorted(keys)


def test_a_statements_day_is_a_day_in_utc(provider: Provider, book: Book):
    moment = timedelta(microseconds=1)
    east, west = (
        datetime.fromisoformat("2026-03-02T00:30+01:00"),
        datetime.fromisoformat("2026-02-28T19:00-05:00"),
    )
    book("the evening before", MIDNIGHT - moment)
    book("first", MIDNIGHT)
    book("west of Greenwich", west)
    book("east of Greenwich", east)
    book("last", MIDNIGHT + timedelta(days=1) - moment)
    book("the morning after", MIDNIGHT + timedelta(days=1))

    lines = whole_statement(provider, DAY)

    assert {line.key for line in lines} == {"first", "west of Greenwich", "east of Greenwich", "last"}
    assert {line.booked_at for line in lines if "Greenwich" in line.key} == {east, west}


def whole_statement(provider: Provider, day: date) -> list[Line]:
    """All lines of a day, page by page."""
    lines: list[Line] = []
    part = provider.statement(day, None)
    while part.more is not None:
        lines += part.lines
        part = provider.statement(day, part.more)
    return [*lines, *part.lines]


def now() -> datetime:
    """By the clock of the provider."""
    [row] = postgres.rows("SELECT clock_timestamp() AS now")
    moment: datetime = row["now"]
    return moment


def today() -> date:
    return now().astimezone(UTC).date()


# An adapter brings a sandbox, or a server of its own, that hangs for these.
@pytest.mark.parametrize("simulate", ["blackout", "timeout", "late", "slow"])
def test_a_call_ends_in_its_time_with_an_answer_or_without(
    provider: Provider, simulate: str, slept: list[float]
):
    made = order(simulate=simulate)
    for call in (lambda: provider.charge(made), lambda: provider.find(made.key)):
        began = time.monotonic()
        with pytest.raises(NoAnswer) if simulate == "blackout" else contextlib.suppress(NoAnswer):
            call()
        assert time.monotonic() - began + sum(slept) < DEADLINE_S
        slept.clear()


def test_a_call_ends_before_its_lease():
    assert DEADLINE_S < job_leases.LEASE_S
