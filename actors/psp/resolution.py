"""What to do about a payment that the PSP has not decided, by what came of asking it. Pure."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Protocol

from db.psp_attempts import PspOperation, PspResult

# How often the PSP is asked for the money, before its saying that it has no such order is believed.
TRIES = 5
# How long a call whose end is not known may still be heard: longer than a client waits for an answer, and
# than the lease of whoever made it.
ARRIVES_WITHIN = timedelta(seconds=30)
# How long after the first call the PSP is not asked for the money again.
TOO_LATE = timedelta(hours=1)


class RecordedCall(Protocol):
    """A call, as `db.psp_attempts` has it."""

    @property
    def operation(self) -> str: ...
    @property
    def outcome(self) -> str | None: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...


class Act(StrEnum):
    """What can be done."""

    # Ask again, in a moment; whoever asks looks first what the PSP knows.
    ASK = "ask"
    # Only look what it knows, in a moment: who did not answer must not keep others waiting for the money.
    LOOK = "look"
    # Leave it to the reconciler: it looks again and again.
    WAIT = "wait"
    # The PSP has no such order, and none can arrive any more: it has failed.
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Decision:
    """What to do, after how many seconds; and whether a person should know."""

    act: Act
    after: float = 0
    review: bool = False


def next_action(asked: Sequence[RecordedCall]) -> Decision:
    """What to do after these calls, oldest first, none of which was answered with a decision."""
    known, asked = asked, [it for it in asked if it.operation != PspOperation.NOTICE]
    calls = sum(it.operation == PspOperation.CHARGE for it in asked)
    last = asked[-1] if asked else None
    if last is None or last.operation == PspOperation.CHARGE:
        unheard = last is not None and last.outcome in (None, PspResult.NO_ANSWER)
        return Decision(Act.LOOK if unheard else Act.ASK, _backoff(calls))
    if last.outcome == PspResult.NOT_FOUND:
        # Nobody expects to be charged for what they wanted long ago.
        if calls < TRIES and last.created_at - asked[0].created_at < TOO_LATE:
            return Decision(Act.ASK, _backoff(calls))
        return Decision(Act.GIVE_UP if is_confirmed_absent(known) else Act.WAIT)
    # It does not even say whether it knows the order.
    silent = _silent(asked)
    if silent < TRIES:
        return Decision(Act.LOOK, _backoff(silent), review=True)
    return Decision(Act.WAIT, review=True)


def is_confirmed_absent(asked: Sequence[RecordedCall]) -> bool:
    """Whether the PSP, asked after the last call for the money, had no such order, and none could arrive by
    then. What counts is the moment of the question, not that of ours: the answer may have lain about."""
    if any(it.outcome in (PspResult.CHARGED, PspResult.DECLINED) for it in asked):
        # It was decided; a question that was asked before that may have been written down after it.
        return False
    since = takewhile(lambda it: it.operation == PspOperation.FIND, reversed(asked))
    return any(it.outcome == PspResult.NOT_FOUND and not may_arrive(asked, it.created_at) for it in since)


def may_arrive(asked: Sequence[RecordedCall], at: datetime) -> bool:
    """Whether a call for the money might, at that moment, still be heard by the PSP, which then charges."""
    return any(
        it.operation == PspOperation.CHARGE
        and it.outcome in (None, PspResult.NO_ANSWER)
        and at - (it.ended_at or it.created_at) < ARRIVES_WITHIN
        for it in asked
    )


def _silent(asked: Sequence[RecordedCall]) -> int:
    """How many calls in a row, to the last one, were not answered."""
    count = 0
    for it in reversed(asked):
        if it.outcome in (PspResult.NOT_FOUND, PspResult.CHARGED, PspResult.DECLINED):
            break
        count += 1
    return count


def _backoff(times: int) -> float:
    # Half a second, doubling; with jitter: what failed together must not come back together.
    return math.ldexp(0.5, max(0, times - 1)) * (0.5 + random.random())
