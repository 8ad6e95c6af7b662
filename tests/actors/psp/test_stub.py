"""The stub: each scenario of `metadata.simulate`."""

import random
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
# What a call raises instead of an answer.
UNAVAILABLE, NO_ANSWER = Unavailable, NoAnswer


@dataclass
class StubRun:
    """A stub, the notices that it sent, the seconds that it waited, and what happens meanwhile."""

    notices: list[tuple[UUID, Answer]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.stub = Stub(lambda id, answer: self.notices.append((id, answer)), sleep=self.wait)

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
        ("an unknown scenario", [CHARGED], CHARGED, 0),
        # Values that name no scenario are approved, and fit into the ledger.
        (True, [CHARGED], CHARGED, 0),
        ({"of": ["decline"]}, [CHARGED], CHARGED, 0),
        ("unknown " * 300, [CHARGED], CHARGED, 0),
        ("decline:" + "x" * 100, [declined("x" * 100)], declined("x" * 100), 0),
        # A code is one word: it appears in mails, and any customer can choose it.
        ("decline:" + "x" * 101, [declined("card_declined")], declined("card_declined"), 0),
        ("decline:call <b>0900</b>", [declined("card_declined")], declined("card_declined"), 0),
        ("decline:no\0thing", [declined("nothing")], declined("nothing"), 0),
    ],
)
def test_the_order_names_the_scenario(run, simulate, calls, found, waits):
    made = order(simulate=simulate)
    assert [run.charge(made) for _ in calls] == calls
    assert run.find(made) == found
    assert sum(run.waited) == waits
    assert run.notices == ([(made.payment_id, CHARGED)] if simulate == "duplicate" else [])


@pytest.mark.parametrize(
    ("simulate", "found_meanwhile"), [("late", None), ("slow", CHARGED), ("timeout", CHARGED)]
)
def test_a_slow_charge_is_found_before_its_answer_and_a_late_one_is_not(run, simulate, found_meanwhile):
    made = order(simulate=simulate)
    found: list[Any] = []
    run.meanwhile = lambda: found.append(run.find(made))
    run.charge(made)
    assert found[-1] == found_meanwhile
    assert run.find(made) == CHARGED


@pytest.mark.parametrize("outcome", [CHARGED, declined("lost_card")])
def test_a_blackout_ends_for_inquiries_when_the_ledger_has_the_order(run, outcome):
    made = order(simulate="blackout")
    assert (run.charge(made), run.find(made)) == (NO_ANSWER, NO_ANSWER)
    psp_ledger.add(
        made.key,
        payment_id=made.payment_id,
        amount=made.amount,
        currency=made.currency,
        outcome=outcome.outcome,
        code=outcome.code,
    )
    assert run.find(made) == outcome


@pytest.mark.parametrize(("rate", "approved"), [(0, 0), (0.25, 1), (0.5, 2), (1, 4)])
def test_an_order_without_a_scenario_is_approved_at_the_configured_rate(monkeypatch, run, rate, approved):
    set_config("psp.approvalRate", rate)
    chances = iter([0.0, 0.25, 0.5, 0.999])
    monkeypatch.setattr(random, "random", lambda: next(chances))
    orders = [order() for _ in range(4)]
    answers = [run.charge(made) for made in orders]
    assert answers == [CHARGED] * approved + [declined("card_declined")] * (4 - approved)
    # Each is decided once, whatever the chance of a repetition.
    monkeypatch.setattr(random, "random", lambda: 1 - rate)
    assert [run.charge(made) for made in orders] == answers


@pytest.mark.parametrize("metadata", [{}, {"simulate": ""}, {"simulate": None}, {"table": 4}])
def test_an_order_without_a_scenario_is_approved_by_the_rate(run, metadata):
    set_config("psp.approvalRate", 0)
    assert run.charge(order(**metadata)) == declined("card_declined")


def test_without_a_configured_rate_every_order_is_approved(run):
    assert [run.charge(order()) for _ in range(20)] == [CHARGED] * 20


def test_an_order_with_a_scenario_ignores_the_rate(run):
    set_config("psp.approvalRate", 0)
    assert run.charge(order(simulate="approve")) == CHARGED
    assert run.charge(order(simulate="slow")) == CHARGED


@pytest.mark.parametrize("simulate", ["decline", "outage", "blackout", "slow"])
def test_an_order_cannot_name_a_scenario_where_simulation_is_off(simulate):
    run = StubRun()
    stub = Stub(lambda _id, _answer: None, simulate=False, sleep=run.wait)
    made = order(simulate=simulate)
    assert stub.charge(made) == stub.find(made.key) == CHARGED
    assert run.waited == []


def test_a_charge_takes_the_configured_latency(run):
    set_config("psp.latencyMs", 250)
    run.charge(order(simulate="approve"))
    run.charge(order(simulate="outage"))
    assert run.waited == [0.25, 0.25]


def test_the_longest_latency_keeps_a_call_within_its_deadline(run):
    set_config("psp.latencyMs", 5000)
    run.charge(order(simulate="late"))
    assert run.waited == [5.0, 3.0]
    assert sum(run.waited) < DEADLINE_S
