"""Calls of the PSP: each is recorded before it is made, and completed with its result."""

from collections.abc import Callable
from dataclasses import asdict
from uuid import UUID

import structlog

from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.psp.provider import Answer, NoAnswer, Order, Unavailable
from actors.psp.resolution import MAX_CHARGE_CALLS
from db import job_journal, postgres, psp_attempts
from db.core.ids import uuid7
from db.psp_attempts import PspOperation, PspResult

log = structlog.get_logger(__name__)

# Returns the job that settles a decision: from the payment's id, the answer, and the id of the recorded call.
SettleJob = Callable[[UUID, Answer, UUID], job_journal.Job]


def charge(payment_id: UUID, settle_job: SettleJob) -> PspResult | None:
    """Orders the charge and returns the result; None if no call was made.

    After an earlier call the PSP is asked first what it decided, since an unknown outcome is not a failure:
    the charge is ordered again only if the PSP has no order.
    """
    # Before anything is recorded: without a provider there is no call.
    psp = provider.chosen()
    attempt_id = uuid7()
    order = _begin(attempt_id, payment_id, PspOperation.CHARGE, first=True)
    if order is None:
        result = find(payment_id, uuid7(), settle_job)
        if result is not PspResult.NOT_FOUND:
            return result
        with postgres.connection():
            charges = psp_attempts.count_charges(payment_id)
        order = _begin(attempt_id, payment_id, PspOperation.CHARGE) if charges < MAX_CHARGE_CALLS else None
        if order is None:
            return None
    return _finish(attempt_id, payment_id, PspOperation.CHARGE, lambda: psp.charge(order), settle_job)


def find(payment_id: UUID, attempt_id: UUID, settle_job: SettleJob) -> PspResult | None:
    """Asks the PSP for its decision and returns the result; None if the payment is no longer `processing`."""
    psp = provider.chosen()
    order = _begin(attempt_id, payment_id, PspOperation.FIND)
    if order is None:
        return None
    return _finish(attempt_id, payment_id, PspOperation.FIND, lambda: psp.find(order.key), settle_job)


def _begin(
    attempt_id: UUID, payment_id: UUID, operation: PspOperation, *, first: bool = False
) -> Order | None:
    """Records a call and returns its order.

    None if the payment is not `processing`, or if this must be its `first` call and is not.
    """
    with postgres.connection():
        terms = psp_attempts.begin(attempt_id, payment_id, operation, first=first)
    # The key is known before the first call, and the same for every call.
    return Order(str(payment_id), payment_id, **terms) if terms else None


def _finish(
    attempt_id: UUID,
    payment_id: UUID,
    operation: PspOperation,
    call: Callable[[], Answer | None],
    settle_job: SettleJob,
) -> PspResult:
    """Makes the call, records its result, and enqueues the settlement of a decision."""
    answer = None
    try:
        answer = call()
        result = PspResult(answer.outcome) if answer else PspResult.NOT_FOUND
    except Unavailable:
        result = PspResult.UNAVAILABLE
    except NoAnswer:
        result = PspResult.NO_ANSWER
    except Exception:
        log.exception("PSP adapter failed", payment_id=str(payment_id), operation=operation)
        result = PspResult.NO_ANSWER
    log.info("PSP called", payment_id=str(payment_id), operation=operation, result=result)
    # Also if the lease is lost by now: it decides which process may call the PSP, not whose answer counts.
    with postgres.connection(), transaction():
        if answer is None:
            psp_attempts.record_result(attempt_id, result)
        else:
            psp_attempts.record_result(attempt_id, **asdict(answer))
            enqueue(settle_job(payment_id, answer, attempt_id))
    return result
