"""The rules for a payment whose outcome is unknown: pure functions of the calls to the PSP so far."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile

from db.psp_attempts import DECISIONS, PspAttempt, PspOperation, PspResult

# Charge calls before `not_found` is final; also unanswered calls in a row before the reconciler takes over.
MAX_CHARGE_CALLS = 5
# How long a call with an unknown end may still reach the PSP: longer than a client waits for an answer, and
# longer than the lease of the job that made the call.
MAY_ARRIVE_FOR = timedelta(seconds=30)
# How long after the first call the charge may be repeated: a customer does not expect an older order to be
# charged.
CHARGE_AGAIN_WITHIN = timedelta(hours=1)

_UNKNOWN_END = (None, PspResult.NO_ANSWER)


class Action(StrEnum):
    """What can follow an unknown outcome."""

    # Order the charge, for the first time or under the same key after an inquiry has found no order.
    CHARGE = "charge"
    # Inquire, in a queue of its own: a PSP that does not answer must not delay other charges.
    INQUIRE = "inquire"
    # Leave the payment to the reconciler, which inquires at growing intervals.
    WAIT = "wait"
    # The PSP has no order, and none can arrive any more: the payment failed.
    FAIL = "fail"


@dataclass(frozen=True)
class NextAction:
    """What to do, after `delay_s` seconds; `review` says whether to open a review."""

    action: Action
    delay_s: float = 0
    review: bool = False


def next_action(calls: Sequence[PspAttempt]) -> NextAction:
    """Decides what follows these calls, given oldest first, none of which has brought a decision."""
    made = [call for call in calls if call.operation != PspOperation.NOTICE]
    charges = sum(call.operation == PspOperation.CHARGE for call in made)
    last = made[-1] if made else None
    if last is None:
        # A notice is no call of ours, but says that the PSP may have the order.
        return NextAction(Action.INQUIRE if calls else Action.CHARGE, _backoff_s(0))
    if last.operation == PspOperation.CHARGE:
        return NextAction(Action.INQUIRE, _backoff_s(charges))
    if last.outcome == PspResult.NOT_FOUND:
        if charges < MAX_CHARGE_CALLS and last.created_at - made[0].created_at < CHARGE_AGAIN_WITHIN:
            # Without a delay: the inquiry has waited after the last charge.
            return NextAction(Action.CHARGE)
        return NextAction(Action.FAIL if is_confirmed_absent(calls) else Action.WAIT)
    # The PSP has not answered the inquiry either.
    unanswered = _unanswered_calls(made)
    # An inquiry that has not ended says nothing yet: the reconciler may begin one before a slow charge call
    # has ended.
    review = any(call.operation == PspOperation.FIND and call.outcome for call in unanswered)
    if len(unanswered) < MAX_CHARGE_CALLS:
        return NextAction(Action.INQUIRE, _backoff_s(len(unanswered)), review)
    return NextAction(Action.WAIT, review=review)


def is_confirmed_absent(calls: Sequence[PspAttempt]) -> bool:
    """Returns whether the PSP had no order at a moment after which none could arrive.

    Only inquiries after the last charge call count. An inquiry tells about the moment when it was made, not
    about now: its answer may have waited in a queue while an order arrived.
    """
    if any(call.outcome in DECISIONS for call in calls):
        # An inquiry made before the decision may have been recorded after it.
        return False
    inquiries = takewhile(lambda call: call.operation == PspOperation.FIND, reversed(calls))
    return any(
        call.outcome == PspResult.NOT_FOUND and not may_arrive(calls, call.created_at) for call in inquiries
    )


def may_arrive(calls: Sequence[PspAttempt], at: datetime) -> bool:
    """Returns whether a charge call without a known end could still reach the PSP then or later."""
    return any(
        call.operation == PspOperation.CHARGE
        and call.outcome in _UNKNOWN_END
        and at - (call.ended_at or call.created_at) < MAY_ARRIVE_FOR
        for call in calls
    )


def _unanswered_calls(calls: Sequence[PspAttempt]) -> list[PspAttempt]:
    """Returns the unanswered calls since the last answer."""
    answered = (PspResult.NOT_FOUND, *DECISIONS)
    return list(takewhile(lambda call: call.outcome not in answered, reversed(calls)))


def _backoff_s(calls: int) -> float:
    # Half a second, doubling. The jitter spreads payments that failed together.
    return math.ldexp(0.5, max(0, calls - 1)) * (0.5 + random.random())
