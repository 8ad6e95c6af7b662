"""The stub: each word of `simulate`, as the contract's table has it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg2.extras import Json

from actors.psp.provider import DEADLINE_S, Answer, NoAnswer, Order, Outcome, Unavailable
from actors.psp.stub import Stub
from db import config, postgres, psp_ledger

pytestmark = pytest.mark.usefixtures("database")

CHARGED = Answer(Outcome.CHARGED)
# How it takes a call: an answer, or one of these.
UNAVAILABLE, NO_ANSWER = Unavailable, NoAnswer


@dataclass
class StubRun:
    """A stub, what it told unasked, how long it let people wait, and what happened while they did."""

    told: list[tuple[UUID, Answer]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.stub = Stub(lambda id, answer: self.told.append((id, answer)), sleep=self.wait)

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.meanwhile()

    def charge(self, order: Order) -> Answer | type[Exception]:
        try:
            return self.stub.charge(order)
        except (Unavailable, NoAnswer) as error:
            return type(error)

    def find(self, order: Order) -> Answer | type[Exception] | None:
        try:
            return self.stub.find(order.key)
        except (Unavailable, NoAnswer) as error:
            return type(error)


@pytest.fixture
def run() -> StubRun:
    return StubRun()


def order(**metadata: Any) -> Order:
    id = uuid4()
    return Order(str(id), id, Decimal("12.50"), "USD", metadata)


def set_config(key: str, value: float) -> None:
    postgres.rows("INSERT INTO admin.system_config (key, value) VALUES (%s, %s)", key, Json(value))
    config.clear_cache()


def declined(code: str) -> Answer:
    return Answer(Outcome.DECLINED, code)


@pytest.mark.parametrize(
    ("simulate", "calls", "found", "waits"),
    [
        ("approve", [CHARGED, CHARGED], CHARGED, 0),
        ("decline", [declined("card_declined")] * 2, declined("card_declined"), 0),
        ("decline:", [declined("card_declined")], declined("card_declined"), 0),
        ("decline:insufficient_funds", [declined("insufficient_funds")], declined("insufficient_funds"), 0),
        ("decline:expired_card", [declined("expired_card")] * 2, declined("expired_card"), 0),
        ("slow", [CHARGED], CHARGED, 3),
        ("error", [UNAVAILABLE, UNAVAILABLE], None, 0),
        ("error", [UNAVAILABLE, UNAVAILABLE, CHARGED, CHARGED], CHARGED, 0),
        ("outage", [UNAVAILABLE] * 9, None, 0),
        ("blackout", [NO_ANSWER, NO_ANSWER], NO_ANSWER, 3),
        ("timeout", [NO_ANSWER], CHARGED, 1),
        ("duplicate", [CHARGED], CHARGED, 0),
        ("late", [CHARGED], CHARGED, 8),
        ("a word that it does not know", [CHARGED], CHARGED, 0),
        # No word of ours: it still answers, and the ledger takes it.
        (True, [CHARGED], CHARGED, 0),
        ({"of": ["decline"]}, [CHARGED], CHARGED, 0),
        ("word " * 300, [CHARGED], CHARGED, 0),
        ("decline:" + "x" * 100, [declined("x" * 100)], declined("x" * 100), 0),
        # A code is a word: it ends up in letters, and anybody may write it.
        ("decline:" + "x" * 101, [declined("card_declined")], declined("card_declined"), 0),
        ("decline:call <b>0900</b>", [declined("card_declined")], declined("card_declined"), 0),
        ("decline:no\0thing", [declined("nothing")], declined("nothing"), 0),
    ],
)
def test_it_plays_what_the_order_says(theatre, simulate, calls, found, waits):
    made = order(simulate=simulate)
    assert [theatre.charge(made) for _ in calls] == calls
    assert theatre.find(made) == found
    assert sum(theatre.waited) == waits
    assert theatre.told == ([(made.payment_id, CHARGED)] if simulate == "duplicate" else [])


@pytest.mark.parametrize(
    ("simulate", "known_meanwhile"), [("late", None), ("slow", CHARGED), ("timeout", CHARGED)]
)
def test_what_takes_long_is_known_meanwhile_unless_it_is_late(theatre, simulate, known_meanwhile):
    made = order(simulate=simulate)
    known: list[Any] = []
    theatre.meanwhile = lambda: known.append(theatre.find(made))
    theatre.charge(made)
    assert known[-1] == known_meanwhile
    assert theatre.find(made) == CHARGED


@pytest.mark.parametrize("outcome", [CHARGED, declined("lost_card")])
def test_a_blackout_ends_for_those_who_ask_when_somebody_books_the_order(theatre, outcome):
    made = order(simulate="blackout")
    assert (theatre.charge(made), theatre.find(made)) == (NO_ANSWER, NO_ANSWER)
    psp_ledger.add(
        made.key,
        payment_id=made.payment_id,
        amount=made.amount,
        currency=made.currency,
        outcome=outcome.outcome,
        code=outcome.code,
    )
    assert theatre.find(made) == outcome


@pytest.mark.parametrize(("rate", "least", "most"), [(0, 0, 0), (1, 100, 100), (0.5, 20, 80)])
def test_an_order_that_says_nothing_is_approved_at_the_configured_rate(theatre, rate, least, most):
    set_config("psp.approvalRate", rate)
    made = [order() for _ in range(100)]
    answers = [theatre.charge(it) for it in made]
    assert least <= answers.count(CHARGED) <= most
    assert {it for it in answers if it != CHARGED} <= {declined("card_declined")}
    # Decided once, however low the rate.
    assert [theatre.charge(it) for it in made] == answers


@pytest.mark.parametrize("metadata", [{}, {"simulate": ""}, {"simulate": None}, {"table": 4}])
def test_an_order_without_a_word_says_nothing(theatre, metadata):
    set_config("psp.approvalRate", 0)
    assert theatre.charge(order(**metadata)) == declined("card_declined")


def test_nothing_configured_everything_is_approved(theatre):
    assert [theatre.charge(order()) for _ in range(20)] == [CHARGED] * 20


def test_an_order_that_says_something_does_not_ask_for_the_rate(theatre):
    set_config("psp.approvalRate", 0)
    assert theatre.charge(order(simulate="approve")) == CHARGED
    assert theatre.charge(order(simulate="slow")) == CHARGED


def test_it_takes_as_long_as_it_is_configured_to(theatre):
    set_config("psp.latencyMs", 250)
    theatre.charge(order(simulate="approve"))
    theatre.charge(order(simulate="outage"))
    assert theatre.waited == [0.25, 0.25]


def test_the_longest_latency_makes_no_call_outlast_its_deadline(theatre):
    set_config("psp.latencyMs", 5000)
    theatre.charge(order(simulate="late"))
    assert theatre.waited == [5.0, 3.0]
    assert sum(theatre.waited) < DEADLINE_S
