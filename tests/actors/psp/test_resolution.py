"""What is done about a payment that the PSP has not decided: a table of what it said, and what follows."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from actors.psp import resolution
from actors.psp.resolution import MAX_CHARGE_CALLS, MAY_ARRIVE_FOR, Action
from tests.makers import MOMENT

MAY_ARRIVE_S = MAY_ARRIVE_FOR.total_seconds()
# What came of asking for the money, and of asking what is known of it.
CHARGE, FIND = "charge", "find"
OUTAGE = [(CHARGE, "unavailable", 60.0)] * MAX_CHARGE_CALLS
NOT_FOUND = (FIND, "not_found", 1.0)


@dataclass(frozen=True)
class Call:
    """A call, as db.psp_attempts has it."""

    operation: str
    outcome: str | None
    created_at: datetime
    ended_at: datetime | None


def recorded(calls: Sequence[tuple[str, str | None, float]]) -> list[Call]:
    """Calls, oldest first, each with its end so many seconds ago; one without outcome began then."""
    moments = [MOMENT - timedelta(seconds=ago) for _, _, ago in calls]
    return [
        Call(operation, outcome, moment, moment if outcome else None)
        for (operation, outcome, _), moment in zip(calls, moments, strict=True)
    ]


@pytest.mark.parametrize(
    ("calls", "act", "review"),
    [
        # Nothing was asked yet, or nothing after the last order: ask, which begins with a look.
        ([], Action.CHARGE, False),
        ([(CHARGE, "unavailable", 1)], Action.CHARGE, False),
        ([(CHARGE, "no_answer", 1)], Action.INQUIRE, False),
        ([(CHARGE, None, 1)], Action.INQUIRE, False),
        (OUTAGE, Action.CHARGE, False),
        # It has no such order: it is given it again, a few times.
        ([NOT_FOUND], Action.CHARGE, False),
        ([(CHARGE, "unavailable", 2), NOT_FOUND], Action.CHARGE, False),
        ([*OUTAGE[1:], NOT_FOUND], Action.CHARGE, False),
        # Then its saying so is believed, unless an order may still be on its way to it.
        ([*OUTAGE, NOT_FOUND], Action.FAIL, False),
        ([*OUTAGE, (CHARGE, "no_answer", 2), NOT_FOUND], Action.WAIT, False),
        ([*OUTAGE, (CHARGE, None, 2), NOT_FOUND], Action.WAIT, False),
        ([(CHARGE, None, MAY_ARRIVE_S), *OUTAGE, NOT_FOUND], Action.WAIT, False),
        ([(CHARGE, None, MAY_ARRIVE_S + 1), *OUTAGE, NOT_FOUND], Action.FAIL, False),
        # Nor is it given an order of long ago.
        ([(CHARGE, "no_answer", 3599), NOT_FOUND], Action.CHARGE, False),
        ([(CHARGE, "no_answer", 3601), NOT_FOUND], Action.FAIL, False),
        # It does not even say whether it has one: never guessed, and a person should know.
        ([(CHARGE, "no_answer", 2), (FIND, "no_answer", 1)], Action.INQUIRE, True),
        ([(CHARGE, "unavailable", 2), (FIND, "unavailable", 1)], Action.INQUIRE, True),
        ([(CHARGE, "no_answer", 2), (FIND, None, 1)], Action.INQUIRE, True),
        ([(CHARGE, "no_answer", 2), *[(FIND, "no_answer", 1)] * (MAX_CHARGE_CALLS - 1)], Action.WAIT, True),
        ([*OUTAGE, (FIND, "unavailable", 1)], Action.WAIT, True),
        ([*OUTAGE, (FIND, "no_answer", 1)], Action.WAIT, True),
        # It was silent, and has found its voice again.
        (
            [(CHARGE, "no_answer", 9), *[(FIND, "no_answer", 2)] * MAX_CHARGE_CALLS, NOT_FOUND],
            Action.CHARGE,
            False,
        ),
        ([*OUTAGE, *[(FIND, "no_answer", 2)] * MAX_CHARGE_CALLS, NOT_FOUND], Action.FAIL, False),
        ([*OUTAGE, NOT_FOUND, (FIND, "no_answer", 1)], Action.INQUIRE, True),
    ],
)
def test_unknown_is_not_failed(calls, act, review):
    verdict = resolution.next_action(recorded(calls))
    assert (verdict.action, verdict.review) == (act, review)


@pytest.mark.parametrize(
    ("calls", "lost"),
    [
        ([], False),
        ([NOT_FOUND], True),
        ([(CHARGE, "unavailable", 2)], False),
        ([(CHARGE, "unavailable", 2), NOT_FOUND], True),
        ([(CHARGE, "unavailable", 3), NOT_FOUND, (FIND, "no_answer", 1)], True),
        # Asked before the last order: that says nothing about the last one.
        ([(CHARGE, "unavailable", 9), (FIND, "not_found", 8), (CHARGE, "unavailable", 1)], False),
        ([(CHARGE, "unavailable", 2), (FIND, "no_answer", 1)], False),
        ([(CHARGE, "no_answer", 2), NOT_FOUND], False),
        ([(CHARGE, "no_answer", MAY_ARRIVE_S + 1), NOT_FOUND], True),
        ([(CHARGE, None, MAY_ARRIVE_S + 1), NOT_FOUND], True),
    ],
)
def test_a_payment_is_lost_when_the_psp_has_no_order_and_can_get_none(calls, lost):
    assert resolution.is_confirmed_absent(recorded(calls)) is lost


def test_that_it_has_no_order_is_believed_only_if_it_was_asked_when_none_could_arrive_any_more():
    # The payments worker was away: the answer is old, and the order may have arrived after it.
    calls = recorded(
        [*OUTAGE, (CHARGE, "no_answer", MAY_ARRIVE_S + 10), (FIND, "not_found", MAY_ARRIVE_S + 9)]
    )
    assert not resolution.is_confirmed_absent(calls)
    assert resolution.next_action(calls).action is not Action.FAIL


@pytest.mark.parametrize("decided", ["charged", "declined"])
def test_what_the_psp_decided_while_somebody_looked_is_not_given_up(decided):
    # The look began after the order and was over before it: nothing was booked yet.
    begun = MOMENT - timedelta(seconds=8)
    order = Call(CHARGE, decided, begun, MOMENT - timedelta(seconds=1))
    looked = Call(FIND, "not_found", begun + timedelta(seconds=3), begun + timedelta(seconds=3))
    calls = [*recorded(OUTAGE), order, looked]
    assert not resolution.is_confirmed_absent(calls)
    assert resolution.next_action(calls).action is not Action.FAIL


@pytest.mark.parametrize(
    ("calls", "may"),
    [
        ([], False),
        ([(CHARGE, None, 0)], True),
        ([(CHARGE, None, MAY_ARRIVE_S - 0.001)], True),
        ([(CHARGE, None, MAY_ARRIVE_S)], False),
        ([(CHARGE, "no_answer", MAY_ARRIVE_S - 0.001)], True),
        ([(CHARGE, "no_answer", MAY_ARRIVE_S)], False),
        ([(CHARGE, "unavailable", 0)], False),
        ([(CHARGE, "declined", 0)], False),
        ([(FIND, None, 0), (FIND, "no_answer", 0)], False),
        ([(CHARGE, None, 1), (CHARGE, "unavailable", 0), (FIND, "not_found", 0)], True),
    ],
)
def test_a_call_whose_end_is_not_known_may_be_heard_for_half_a_minute(calls, may):
    assert resolution.may_arrive(recorded(calls), MOMENT) is may


def test_the_half_minute_counts_from_the_end_of_the_call():
    ended = MOMENT - timedelta(seconds=MAY_ARRIVE_S - 1)
    call = Call(CHARGE, "no_answer", ended - timedelta(seconds=10), ended)
    assert resolution.may_arrive([call], MOMENT)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.5), (0.5, 1.0), (0.999, 1.499)])
def test_waits_double_and_differ(monkeypatch, chance, factor):
    monkeypatch.setattr(random, "random", lambda: chance)
    after_orders = [resolution.next_action(recorded(OUTAGE[:n])).delay_s for n in range(MAX_CHARGE_CALLS + 1)]
    assert after_orders == pytest.approx([wait * factor for wait in (0.5, 0.5, 1, 2, 4, 8)])
    silence = [
        [(CHARGE, "no_answer", 9), *[(FIND, "no_answer", 1)] * n] for n in range(1, MAX_CHARGE_CALLS - 1)
    ]
    assert [resolution.next_action(recorded(calls)).delay_s for calls in silence] == pytest.approx(
        [wait * factor for wait in (1, 2, 4)]
    )
