"""The rules for an unknown outcome: a table of recorded calls and the action that follows."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from actors.psp import resolution
from actors.psp.resolution import MAX_CHARGE_CALLS, MAY_ARRIVE_FOR, Action
from db.psp_attempts import PspAttempt
from tests.makers import MOMENT

MAY_ARRIVE_S = MAY_ARRIVE_FOR.total_seconds()
CHARGE, FIND = "charge", "find"
OUTAGE = [(CHARGE, "unavailable", 60.0)] * MAX_CHARGE_CALLS
NOT_FOUND = (FIND, "not_found", 1.0)


def call(operation: str, outcome: str | None, created_at: datetime, ended_at: datetime | None) -> PspAttempt:
    """Return a recorded call."""
    return PspAttempt(operation=operation, outcome=outcome, created_at=created_at, ended_at=ended_at)


def recorded(calls: Sequence[tuple[str, str | None, float]]) -> list[PspAttempt]:
    """Return recorded calls, oldest first, each ended so many seconds ago, or began if it has no outcome."""
    moments = [MOMENT - timedelta(seconds=ago) for _, _, ago in calls]
    return [
        call(operation, outcome, moment, moment if outcome else None)
        for (operation, outcome, _), moment in zip(calls, moments, strict=True)
    ]


@pytest.mark.parametrize(
    ("calls", "action", "review"),
    [
        # No call yet: charge. After a charge call, or a notice: inquire before the order is repeated.
        ([], Action.CHARGE, False),
        ([("notice", "charged", 1)], Action.INQUIRE, False),
        ([(CHARGE, "unavailable", 1)], Action.INQUIRE, False),
        ([(CHARGE, "no_answer", 1)], Action.INQUIRE, False),
        ([(CHARGE, None, 1)], Action.INQUIRE, False),
        (OUTAGE, Action.INQUIRE, False),
        # The PSP has no order: it is ordered again, a few times.
        ([NOT_FOUND], Action.CHARGE, False),
        ([(CHARGE, "unavailable", 2), NOT_FOUND], Action.CHARGE, False),
        ([*OUTAGE[1:], NOT_FOUND], Action.CHARGE, False),
        # Then the payment has failed, unless a call may still arrive.
        ([*OUTAGE, NOT_FOUND], Action.FAIL, False),
        ([*OUTAGE, (CHARGE, "no_answer", 2), NOT_FOUND], Action.WAIT, False),
        ([*OUTAGE, (CHARGE, None, 2), NOT_FOUND], Action.WAIT, False),
        ([(CHARGE, None, MAY_ARRIVE_S), *OUTAGE, NOT_FOUND], Action.WAIT, False),
        ([(CHARGE, None, MAY_ARRIVE_S + 1), *OUTAGE, NOT_FOUND], Action.FAIL, False),
        # An order of more than an hour ago is not repeated.
        ([(CHARGE, "no_answer", 3599), NOT_FOUND], Action.CHARGE, False),
        ([(CHARGE, "no_answer", 3601), NOT_FOUND], Action.FAIL, False),
        # Inquiries are unanswered: the payment never fails by a guess, and a person should know.
        ([(CHARGE, "no_answer", 2), (FIND, "no_answer", 1)], Action.INQUIRE, True),
        ([(CHARGE, "unavailable", 2), (FIND, "unavailable", 1)], Action.INQUIRE, True),
        ([(CHARGE, "no_answer", 3), (FIND, "no_answer", 2), (FIND, None, 1)], Action.INQUIRE, True),
        (
            [(CHARGE, "no_answer", 2), *[(FIND, "no_answer", 1)] * MAX_CHARGE_CALLS, (FIND, None, 1)],
            Action.WAIT,
            True,
        ),
        # The first inquiry is still under way, or its worker was killed: it may yet be answered.
        ([(CHARGE, "no_answer", 2), (FIND, None, 1)], Action.INQUIRE, False),
        ([*OUTAGE, NOT_FOUND, (FIND, None, 1)], Action.INQUIRE, False),
        ([*OUTAGE, (FIND, None, 1)], Action.WAIT, False),
        ([(CHARGE, "no_answer", 2), *[(FIND, "no_answer", 1)] * (MAX_CHARGE_CALLS - 1)], Action.WAIT, True),
        ([*OUTAGE, (FIND, "unavailable", 1)], Action.WAIT, True),
        ([*OUTAGE, (FIND, "no_answer", 1)], Action.WAIT, True),
        # The PSP answers again.
        (
            [(CHARGE, "no_answer", 9), *[(FIND, "no_answer", 2)] * MAX_CHARGE_CALLS, NOT_FOUND],
            Action.CHARGE,
            False,
        ),
        ([*OUTAGE, *[(FIND, "no_answer", 2)] * MAX_CHARGE_CALLS, NOT_FOUND], Action.FAIL, False),
        ([*OUTAGE, NOT_FOUND, (FIND, "no_answer", 1)], Action.INQUIRE, True),
    ],
)
def test_an_unknown_outcome_is_not_a_failure(calls, action, review):
    decision = resolution.next_action(recorded(calls))
    assert (decision.action, decision.review) == (action, review)


@pytest.mark.parametrize(
    ("calls", "absent"),
    [
        ([], False),
        ([NOT_FOUND], True),
        ([(CHARGE, "unavailable", 2)], False),
        ([(CHARGE, "unavailable", 2), NOT_FOUND], True),
        ([(CHARGE, "unavailable", 3), NOT_FOUND, (FIND, "no_answer", 1)], True),
        # An inquiry before the last charge call says nothing about that call.
        ([(CHARGE, "unavailable", 9), (FIND, "not_found", 8), (CHARGE, "unavailable", 1)], False),
        ([(CHARGE, "unavailable", 2), (FIND, "no_answer", 1)], False),
        ([(CHARGE, "no_answer", 2), NOT_FOUND], False),
        ([(CHARGE, "no_answer", MAY_ARRIVE_S + 1), NOT_FOUND], True),
        ([(CHARGE, None, MAY_ARRIVE_S + 1), NOT_FOUND], True),
    ],
)
def test_an_order_is_absent_when_the_psp_has_none_and_none_can_arrive(calls, absent):
    assert resolution.is_confirmed_absent(recorded(calls)) is absent


def test_an_inquiry_counts_at_the_moment_it_was_made():
    # The answer is old, since the payments worker was down: the order may have arrived after the inquiry.
    calls = recorded(
        [*OUTAGE, (CHARGE, "no_answer", MAY_ARRIVE_S + 10), (FIND, "not_found", MAY_ARRIVE_S + 9)]
    )
    assert not resolution.is_confirmed_absent(calls)
    assert resolution.next_action(calls).action is not Action.FAIL


@pytest.mark.parametrize("decided", ["charged", "declined"])
def test_a_decision_outweighs_an_inquiry_made_before_the_decision(decided):
    # The inquiry began after the charge call and ended before it: the ledger was still empty.
    begun = MOMENT - timedelta(seconds=8)
    charge = call(CHARGE, decided, begun, MOMENT - timedelta(seconds=1))
    inquiry = call(FIND, "not_found", begun + timedelta(seconds=3), begun + timedelta(seconds=3))
    calls = [*recorded(OUTAGE), charge, inquiry]
    assert not resolution.is_confirmed_absent(calls)
    assert resolution.next_action(calls).action is not Action.FAIL


@pytest.mark.parametrize(
    ("calls", "arrives"),
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
def test_a_call_with_an_unknown_end_may_arrive_for_half_a_minute(calls, arrives):
    assert resolution.may_arrive(recorded(calls), MOMENT) is arrives


def test_the_half_minute_starts_at_the_end_of_the_call():
    ended = MOMENT - timedelta(seconds=MAY_ARRIVE_S - 1)
    unanswered = call(CHARGE, "no_answer", ended - timedelta(seconds=10), ended)
    assert resolution.may_arrive([unanswered], MOMENT)


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.5), (0.5, 1.0), (0.999, 1.499)])
def test_delays_double_with_jitter(monkeypatch, chance, factor):
    monkeypatch.setattr(random, "random", lambda: chance)
    after_charges = [
        resolution.next_action(recorded(OUTAGE[:n])).delay_s for n in range(MAX_CHARGE_CALLS + 1)
    ]
    assert after_charges == pytest.approx([wait * factor for wait in (0.5, 0.5, 1, 2, 4, 8)])
    unanswered = [
        [(CHARGE, "no_answer", 9), *[(FIND, "no_answer", 1)] * n] for n in range(1, MAX_CHARGE_CALLS - 1)
    ]
    assert [resolution.next_action(recorded(calls)).delay_s for calls in unanswered] == pytest.approx(
        [wait * factor for wait in (1, 2, 4)]
    )
