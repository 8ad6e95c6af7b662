"""The stub: a payment provider in a process of its own, with a ledger of its own.

It plays what the order's `metadata.simulate` says; without it, it approves `psp.approvalRate` of all orders:

    approve             charges (as does a word that it does not know)
    decline[:<code>]    declines, with this code
    slow                charges, and takes three seconds to say so
    error               cannot (5xx) the first two times, then charges
    outage              cannot, ever; and knows of no such order
    blackout            answers nothing, neither to `charge` nor to `find`, until somebody books the order
    timeout             charges, and the answer is lost
    duplicate           charges, and says so twice
    late                takes eight seconds to charge; meanwhile it knows of no such order
"""

import random
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from actors.psp.provider import Answer, Line, NoAnswer, Order, Outcome, Statement, Unavailable
from db import config, postgres, psp_ledger

_WORD_LENGTH = 255
_CODE = re.compile(r"[A-Za-z0-9_-]{1,100}")
# In seconds: how long an answer takes, and how long one waits for one that does not come.
_SLOW, _LATE, _PATIENCE = 3.0, 8.0, 1.0
_ERRORS = 2
# What it plays by what it was asked before.
_REMEMBERED = ("error", "blackout")
_LINES = 500


class Stub:
    """A Provider that keeps its word: one decision a key, booked before it is told.

    `tell` takes the answers that come unasked; `sleep` is the clock, which a test may stop.
    """

    def __init__(
        self, tell: Callable[[UUID, Answer], None], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._tell, self._sleep = tell, sleep

    def charge(self, order: Order) -> Answer:
        """Books the decision under the order's key, or finds it booked."""
        word, _, code = _wish(order).partition(":")
        with postgres.connection():
            latency_s = float(config.number(config.ConfigKey.PSP_LATENCY_MS)) / 1000
            rate = config.number(config.ConfigKey.PSP_APPROVAL_RATE)
            calls = psp_ledger.record_call(order.key, word) if word in _REMEMBERED else 0
        if latency_s:
            self._sleep(latency_s)
        if word == "outage" or (word == "error" and calls <= _ERRORS):
            raise Unavailable("503")
        if word == "blackout":
            self._silence()
        if word == "late":
            # As a whole: with the latency on top it would outlast the call.
            self._sleep(max(0.0, _LATE - latency_s))
        answer = self._book(order, _decide(word, code, float(rate)))
        if word == "slow":
            self._sleep(_SLOW)
        if word == "timeout":
            self._silence()
        if word == "duplicate":
            self._tell(order.payment_id, answer)
        return answer

    def find(self, key: str) -> Answer | None:
        """What is booked under this key."""
        with postgres.connection():
            booked = psp_ledger.find(key)
            silent = booked is None and psp_ledger.find_scenario(key) == "blackout"
        if silent:
            self._silence()
        return _answer(booked) if booked else None

    def statement(self, day: date, after: str | None) -> Statement:
        """The ledger of that day, in its order."""
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        moment, _, key = (after or "").partition(" ")
        place = (datetime.fromisoformat(moment), key) if after else None
        with postgres.connection():
            found = psp_ledger.charges_between(begin, begin + timedelta(days=1), place, _LINES)
        lines = [
            Line(
                it.idempotency_key,
                it.idempotency_key,
                it.amount,
                it.currency,
                Outcome(it.outcome),
                it.created_at,
            )
            for it in found
        ]
        more = f"{found[-1].created_at.isoformat()} {found[-1].idempotency_key}" if found else None
        return Statement(lines, more if len(found) == _LINES else None)

    def _book(self, order: Order, decided: Answer) -> Answer:
        with postgres.connection():
            booked = psp_ledger.add(
                order.key,
                payment_id=order.payment_id,
                amount=order.amount,
                currency=order.currency,
                outcome=decided.outcome,
                code=decided.code,
            )
        return _answer(booked)

    def _silence(self) -> None:
        self._sleep(_PATIENCE)
        raise NoAnswer("no answer in time")


def _answer(booked: psp_ledger.Charge) -> Answer:
    return Answer(Outcome(booked.outcome), booked.code, booked.amount, booked.currency)


def _wish(order: Order) -> str:
    """What to play; empty where the order does not say."""
    wish = order.metadata.get("simulate")
    return "" if wish is None else str(wish).replace("\0", "")[:_WORD_LENGTH]


def _decide(word: str, code: str, approval_rate: float) -> Answer:
    # A share of what did not ask for anything: random() is below 1, so a rate of 1 declines nothing.
    if word == "decline" or (not word and random.random() >= approval_rate):
        # It ends up in a letter, and anybody may write it: a code is a word.
        return Answer(Outcome.DECLINED, code if _CODE.fullmatch(code) else "card_declined")
    return Answer(Outcome.CHARGED)
