"""The stub: a payment provider in a process of its own, with a ledger of its own.

It decides by the order's `metadata.simulate`:

    approve             charges (as does no or another word)
    decline[:<code>]    declines, with this code
    slow                charges, and takes three seconds to say so
"""

import time

from actors.psp.provider import Answer, Order, Outcome
from db import postgres, psp_ledger

_CODE_LENGTH = 100
_SLOW = 3.0


class Stub:
    """A Provider that keeps its word: one decision a key, booked before it is told."""

    def charge(self, order: Order) -> Answer:
        """Books the decision under the order's key, or finds it booked."""
        decided = _decide(order)
        with postgres.connection():
            booked = psp_ledger.add(
                order.key,
                payment_id=order.payment_id,
                amount=order.amount,
                currency=order.currency,
                outcome=decided.outcome,
                code=decided.code,
            )
        if _word(order) == "slow":
            time.sleep(_SLOW)
        return _answer(booked)

    def find(self, key: str) -> Answer | None:
        """What is booked under this key."""
        with postgres.connection():
            booked = psp_ledger.find(key)
        return _answer(booked) if booked else None


def _answer(booked: psp_ledger.Charge) -> Answer:
    return Answer(Outcome(booked.outcome), booked.code)


def _decide(order: Order) -> Answer:
    if _word(order) == "decline":
        code = str(order.metadata["simulate"]).partition(":")[2]
        return Answer(Outcome.DECLINED, code[:_CODE_LENGTH] or "card_declined")
    return Answer(Outcome.CHARGED)


def _word(order: Order) -> str:
    return str(order.metadata.get("simulate", "approve")).partition(":")[0]
