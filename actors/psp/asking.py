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

    Where it was asked for before, the PSP is asked first what it knows: unknown is not failed.
    """
    with postgres.connection():
        calls = psp_attempts.calls(order.payment_id)
    if calls:
        result, answer = find(order.payment_id, uuid4())
        if result is not Result.NOT_FOUND or calls >= TRIES:
            return answer
    _, answer = _call(uuid4(), order.payment_id, Operation.CHARGE, lambda: provider.chosen().charge(order))
    return answer


def find(payment_id: UUID, attempt_id: UUID) -> tuple[Result | None, Answer | None]:
    """Asks what the PSP knows, under this id of an attempt: what came of it, and the answer, if there is one.

    The result is None when the payment needs no answer any more.
    """
    key = reference(payment_id)
    return _call(attempt_id, payment_id, Operation.FIND, lambda: provider.chosen().find(key))


def reference(payment_id: UUID) -> str:
    """Our idempotency key of a payment: known before the first call, and the same however often we ask."""
    return str(payment_id)


def _call(
    id: UUID, payment_id: UUID, operation: Operation, ask: Callable[[], Answer | None]
) -> tuple[Result | None, Answer | None]:
    with postgres.connection():
        if not psp_attempts.begin(id, payment_id, operation, reference(payment_id)):
            return None, None
    answer = None
    try:
        answer = ask()
        result = Result(answer.outcome) if answer else Result.NOT_FOUND
    except Unavailable:
        result = Result.UNAVAILABLE
    except NoAnswer:
        result = Result.NO_ANSWER
    log.info("the PSP was asked", payment=str(payment_id), operation=operation, result=result)
    with postgres.connection():
        psp_attempts.end(id, result, answer.code if answer else None)
    return result, answer
