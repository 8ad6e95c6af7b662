"""Asking the PSP from the door: the psp worker looks, and we wait for what it finds."""

import threading
from uuid import uuid4

from falcon import Request

from actors import payment_jobs
from actors.jobs import enqueue, transaction
from api.payments import prefer
from db import payments, psp_attempts
from db.payments import Payment
from db.psp_attempts import PspResult
from db.states import TERMINAL, PaymentStatus, PaymentType

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
        enqueue(payment_jobs.inquire.job(payment.id, id))

    def ask() -> PspResult | PaymentStatus | None:
        if (result := psp_attempts.find_result(id)) is not None:
            return result
        # Or it has come to an end meanwhile, and nobody needs to be asked.
        now = payments.get(payment.id)
        return PaymentStatus(now.status) if now is not None and now.status in TERMINAL else None

    answer = prefer.until(req, ask, _PATIENCE, seats=_seats)
    if answer in (PspResult.CHARGED, PspResult.DECLINED, PaymentStatus.COMPLETED):
        return True
    if answer in (None, PspResult.NO_ANSWER, PspResult.UNAVAILABLE):
        raise payment_jobs.OutcomeUnknown(PaymentType(payment.type), payment.status)
    return False
