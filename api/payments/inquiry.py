"""Asking the PSP from the door: the psp worker looks, and we wait for what it finds."""

from uuid import UUID, uuid4

from falcon import Request

from actors import payments as life
from actors.verbs import promise, transaction
from api.gateway import prefer
from db import payments, psp_attempts
from db.psp_attempts import Result
from db.states import FINAL

# In seconds: longer than the PSP is given to answer.
_PATIENCE = 5.0


def decided(req: Request, payment_id: UUID) -> bool:
    """Whether the PSP knows how this payment ends, so that it will end so. Raises life.Undecided when it does
    not say; False when it knows of no such order."""
    id = uuid4()
    with transaction():
        promise(life.look.message(payment_id, id))

    def ask() -> Result | None:
        if (result := psp_attempts.result(id)) is not None:
            return result
        # Or it has come to an end meanwhile, and nobody needs to be asked.
        payment = payments.get(payment_id)
        return Result.CHARGED if payment is not None and payment.status in FINAL else None

    result = prefer.until(req, ask, _PATIENCE)
    if result in (Result.CHARGED, Result.DECLINED):
        return True
    if result is Result.NOT_FOUND:
        return False
    raise life.Undecided
