"""How the PSP is asked: the reference is written down before the call, and what came of it after it."""

from collections.abc import Callable
from uuid import UUID, uuid4

import structlog

from actors.psp import provider
from actors.psp.doubt import TRIES
from actors.psp.provider import Answer, NoAnswer, Order, Unavailable
from db import postgres, psp_attempts
from db.psp_attempts import Operation, Result

log = structlog.get_logger(__name__)


def charge(order: Order) -> Answer | None:
    """Asks for the money; None when it is not known what came of it.

    Where the PSP was asked about it before, it is first asked what it knows: unknown is not failed.
    """

    # Before anything is written: where there is no provider, none was asked.
    chosen = provider.chosen()

    def ask() -> Answer:
        return chosen.charge(order)

    id = uuid4()
    if _begun(id, order.payment_id, Operation.CHARGE, first=True):
        return _ended(id, order.payment_id, Operation.CHARGE, ask)[1]
    result, answer = find(order.payment_id, uuid4())
    if result is not Result.NOT_FOUND:
        return answer
    with postgres.connection():
        calls = psp_attempts.calls(order.payment_id)
    if calls >= TRIES or not _begun(id, order.payment_id, Operation.CHARGE):
        return None
    return _ended(id, order.payment_id, Operation.CHARGE, ask)[1]


def find(payment_id: UUID, attempt_id: UUID) -> tuple[Result | None, Answer | None]:
    """Asks what the PSP knows, under this id of an attempt: what came of it, and the answer, if there is one.

    The result is None when the payment needs no answer any more.
    """
    chosen, key = provider.chosen(), reference(payment_id)
    if not _begun(attempt_id, payment_id, Operation.FIND):
        return None, None
    return _ended(attempt_id, payment_id, Operation.FIND, lambda: chosen.find(key))


def reference(payment_id: UUID) -> str:
    """Our idempotency key of a payment: known before the first call, and the same however often we ask."""
    return str(payment_id)


def _begun(id: UUID, payment_id: UUID, operation: Operation, *, first: bool = False) -> bool:
    with postgres.connection():
        return psp_attempts.begin(id, payment_id, operation, reference(payment_id), first=first)


def _ended(
    id: UUID, payment_id: UUID, operation: Operation, ask: Callable[[], Answer | None]
) -> tuple[Result, Answer | None]:
    answer = None
    try:
        answer = ask()
        result = Result(answer.outcome) if answer else Result.NOT_FOUND
    except Unavailable:
        result = Result.UNAVAILABLE
    except NoAnswer:
        result = Result.NO_ANSWER
    except Exception:
        log.exception("the PSP's adapter failed", payment=str(payment_id), operation=operation)
        result = Result.NO_ANSWER
    log.info("the PSP was asked", payment=str(payment_id), operation=operation, result=result)
    with postgres.connection():
        psp_attempts.end(id, result, answer.code if answer else None)
    return result, answer
