"""The stub of a payment provider, in the psp worker, with a ledger of its own (`psp.charges`).

If PSP_SIMULATE is on, the order's `metadata.simulate` names a scenario. Without a scenario, the stub approves
the share `psp.approvalRate` of the orders. The scenarios:

    approve             charges; an unknown scenario does the same
    decline[:<code>]    declines, with this code
    slow                charges, and answers after three seconds
    error               is unavailable (5xx) for the first two calls, then charges
    outage              is always unavailable, and has no such order
    blackout            answers neither `charge` nor `find`, until the order is inserted into the ledger
    timeout             charges, and the answer is lost
    duplicate           charges, and answers twice
    late                charges after eight seconds; until then it has no such order
"""

import random
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from actors.psp.provider import Answer, Line, NoAnswer, Order, Outcome, Statement, Unavailable
from db import config, postgres, psp_ledger

_SCENARIO_LENGTH = 255
_CODE = re.compile(r"[A-Za-z0-9_-]{1,100}")
# Durations in seconds: of a slow answer, of a late charge, and until a caller stops waiting for an answer.
_SLOW_S, _LATE_S, _CLIENT_TIMEOUT_S = 3.0, 8.0, 1.0
_ERRORS_BEFORE_CHARGE = 2
# Scenarios that depend on the earlier calls under the same key.
_COUNTED_SCENARIOS = ("error", "blackout")
_STATEMENT_LINES = 500


class Stub:
    """A Provider that stores one decision for each key before it answers.

    `notify` receives decisions that are sent unasked. `simulate` lets orders name scenarios. `sleep` waits;
    tests replace it.
    """

    def __init__(
        self,
        notify: Callable[[UUID, Answer], None],
        *,
        simulate: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._notify, self._simulate, self._sleep = notify, simulate, sleep

    def charge(self, order: Order) -> Answer:
        """Stores the decision under the order's key, or returns the stored one."""
        scenario, _, code = (_scenario(order) if self._simulate else "").partition(":")
        with postgres.connection():
            latency_s = float(config.number(config.ConfigKey.PSP_LATENCY_MS)) / 1000
            rate = config.number(config.ConfigKey.PSP_APPROVAL_RATE)
            calls = psp_ledger.record_call(order.key, scenario) if scenario in _COUNTED_SCENARIOS else 0
        if latency_s:
            self._sleep(latency_s)
        if scenario == "outage" or (scenario == "error" and calls <= _ERRORS_BEFORE_CHARGE):
            raise Unavailable("503")
        if scenario == "blackout":
            self._lose_answer()
        if scenario == "late":
            # The latency is a part of the eight seconds: on top of them, the call would exceed its deadline.
            self._sleep(max(0.0, _LATE_S - latency_s))
        answer = self._store(order, _decide(scenario, code, float(rate)))
        if scenario == "slow":
            self._sleep(_SLOW_S)
        if scenario == "timeout":
            self._lose_answer()
        if scenario == "duplicate":
            self._notify(order.payment_id, answer)
        return answer

    def find(self, key: str) -> Answer | None:
        """Returns the decision in the ledger; None if the ledger has no such order."""
        with postgres.connection():
            charge = psp_ledger.find(key)
            silent = charge is None and psp_ledger.find_scenario(key) == "blackout"
        if silent:
            self._lose_answer()
        return _answer(charge) if charge else None

    def statement(self, day: date, after: str | None) -> Statement:
        """Returns the decisions of that day (UTC) after the place `after`, `<time> <key>`, oldest first."""
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        moment, _, key = (after or "").partition(" ")
        after_charge = (datetime.fromisoformat(moment), key) if after else None
        with postgres.connection():
            found = psp_ledger.charges_between(
                begin, begin + timedelta(days=1), after_charge, _STATEMENT_LINES
            )
        lines = [
            Line(
                charge.idempotency_key,
                charge.idempotency_key,
                charge.amount,
                charge.currency,
                Outcome(charge.outcome),
                charge.created_at,
            )
            for charge in found
        ]
        more = f"{found[-1].created_at.isoformat()} {found[-1].idempotency_key}" if found else None
        return Statement(lines, more if len(found) == _STATEMENT_LINES else None)

    def _store(self, order: Order, decision: Answer) -> Answer:
        with postgres.connection():
            charge = psp_ledger.add(
                order.key,
                payment_id=order.payment_id,
                amount=order.amount,
                currency=order.currency,
                outcome=decision.outcome,
                code=decision.code,
            )
        return _answer(charge)

    def _lose_answer(self) -> None:
        self._sleep(_CLIENT_TIMEOUT_S)
        raise NoAnswer("no answer in time")


def _answer(charge: psp_ledger.Charge) -> Answer:
    return Answer(Outcome(charge.outcome), charge.code, charge.amount, charge.currency)


def _scenario(order: Order) -> str:
    """Returns the scenario that the order names, or an empty string."""
    named = order.metadata.get("simulate")
    return "" if named is None else str(named).replace("\0", "")[:_SCENARIO_LENGTH]


def _decide(scenario: str, code: str, approval_rate: float) -> Answer:
    """Returns the decision of a scenario; without one, a random decision by the approval rate."""
    # random() is below 1, so a rate of 1 declines nothing.
    if scenario == "decline" or (not scenario and random.random() >= approval_rate):
        # The code appears in mails, and any customer can choose it: it has to be one word.
        return Answer(Outcome.DECLINED, code if _CODE.fullmatch(code) else "card_declined")
    return Answer(Outcome.CHARGED)
