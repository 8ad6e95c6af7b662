"""Asking the PSP from the door: the psp worker looks, and we wait for what it finds."""

import threading
from uuid import uuid4

from falcon import Request

from actors import payment_jobs
from actors.jobs import promise, transaction
from api.payments import prefer
from db import payments, psp_attempts
from db.payments import Payment
from db.psp_attempts import Result
from db.states import FINAL, Status, Type

# In seconds: longer than the PSP is given to answer.
_PATIENCE = 5.0
# Its own, so that who waits for payments keeps no administrator from settling them.
SEATS = 4
_seats = threading.BoundedSemaphore(SEATS)


def decided(req: Request, payment: Payment) -> bool:
    """Whether the PSP knows how this payment ends, so that it will end so. Raises life.Undecided when it does
    not say, and prefer.Crowded; False when it knows of no such order, or it has ended otherwise meanwhile."""
    id = uuid4()
    with transaction():
        promise(payment_jobs.look.message(payment.id, id))

    def ask() -> Result | Status | None:
        if (result := psp_attempts.result(id)) is not None:
            return result
        # Or it has come to an end meanwhile, and nobody needs to be asked.
        now = payments.get(payment.id)
        return Status(now.status) if now is not None and now.status in FINAL else None

    answer = prefer.until(req, ask, _PATIENCE, seats=_seats)
    if answer in (Result.CHARGED, Result.DECLINED, Status.COMPLETED):
        return True
    if answer in (None, Result.NO_ANSWER, Result.UNAVAILABLE):
        raise payment_jobs.Undecided(Type(payment.type), payment.status)
    return False
