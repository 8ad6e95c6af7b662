"""How the PSP is asked: the reference is written down before the call, and what came of it after it."""

from collections.abc import Callable
from uuid import UUID, uuid4

import structlog

from actors.jobs import enqueue, transaction
from actors.psp import provider
from actors.psp.provider import Answer, NoAnswer, Order, Unavailable
from actors.psp.resolution import TRIES
from db import job_journal, postgres, psp_attempts
from db.psp_attempts import PspOperation, PspResult

log = structlog.get_logger(__name__)

# The job that settles what the PSP has decided: of a payment, by the id of the attempt that brought it.
Settle = Callable[[UUID, Answer, UUID], job_journal.Job]

DECIDED = frozenset({PspResult.CHARGED, PspResult.DECLINED})


def charge(payment_id: UUID, settle: Settle) -> PspResult | None:
    """Asks for the money: what came of it, None when nobody was asked.

    Where the PSP was asked about it before, it is first asked what it knows: unknown is not failed.
    """
    # Before anything is written: where there is no provider, none was asked.
    chosen = provider.chosen()
    id = uuid4()
    begun = _begun(id, payment_id, PspOperation.CHARGE, first=True)
    if begun is None:
        result = find(payment_id, uuid4(), settle)
        if result is not PspResult.NOT_FOUND:
            return result
        with postgres.connection():
            calls = psp_attempts.count_charges(payment_id)
        begun = _begun(id, payment_id, PspOperation.CHARGE) if calls < TRIES else None
        if begun is None:
            return None
    order = Order(reference(payment_id), payment_id, begun.amount, begun.currency, begun.metadata)
    return _ended(id, payment_id, PspOperation.CHARGE, lambda: chosen.charge(order), settle)


def find(payment_id: UUID, attempt_id: UUID, settle: Settle) -> PspResult | None:
    """Asks what the PSP knows, under this id of an attempt: what came of it, None when the payment needs no
    answer any more."""
    chosen, key = provider.chosen(), reference(payment_id)
    if _begun(attempt_id, payment_id, PspOperation.FIND) is None:
        return None
    return _ended(attempt_id, payment_id, PspOperation.FIND, lambda: chosen.find(key), settle)


def reference(payment_id: UUID) -> str:
    """Our idempotency key of a payment: known before the first call, and the same however often we ask."""
    return str(payment_id)


def _begun(
    id: UUID, payment_id: UUID, operation: PspOperation, *, first: bool = False
) -> psp_attempts.OrderTerms | None:
    with postgres.connection():
        return psp_attempts.begin(id, payment_id, operation, reference(payment_id), first=first)


def _ended(
    id: UUID, payment_id: UUID, operation: PspOperation, ask: Callable[[], Answer | None], settle: Settle
) -> PspResult:
    answer = None
    try:
        answer = ask()
        result = PspResult(answer.outcome) if answer else PspResult.NOT_FOUND
    except Unavailable:
        result = PspResult.UNAVAILABLE
    except NoAnswer:
        result = PspResult.NO_ANSWER
    except Exception:
        log.exception("the PSP's adapter failed", payment=str(payment_id), operation=operation)
        result = PspResult.NO_ANSWER
    log.info("the PSP was asked", payment=str(payment_id), operation=operation, result=result)
    # One transaction, whatever has become of the lease meanwhile: it says who may ask, not who is believed.
    with postgres.connection(), transaction():
        if answer is None:
            psp_attempts.record_result(id, result)
        else:
            psp_attempts.record_result(id, result, answer.code, answer.amount, answer.currency)
            enqueue(settle(payment_id, answer, id))
    return result
