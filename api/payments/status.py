"""POST /payments/:id/status: cancelled, or failed, by hand."""

from typing import Any
from uuid import UUID

from falcon import Request

from actors import payment_jobs, state_machine
from api.http.operation import Accepted, operation
from api.middleware import authentication
from api.payments import answers, changes, idempotency, inquiry, schemas, visibility
from api.security.permissions import Permission
from db.states import TERMINAL, PaymentStatus, PaymentType


class OneStatus:
    """POST /payments/:id/status"""

    @operation(
        Permission.CHANGE_PAYMENTS,
        "Change accepted.",
        name="changePaymentStatus",
        body=schemas.StatusChange,
        response=answers.Payment,
        errors=(state_machine.TransitionRefused, payment_jobs.OutcomeUnknown, payment_jobs.StatusNotSettable),
        examples={"cancel": {"status": "cancelled", "reason": "Ordered twice"}},
        status=202,
        idempotent=True,
        prefer_wait=True,
    )
    def on_post(self, req: Request, payment_id: UUID, body: schemas.StatusChange) -> Accepted:
        """Cancels, or (as an administrator) fails a payment.

        What the PSP has in its hands is failed only if the PSP, asked first, has no such order and can get
        none any more; if it has charged, the payment completes.
        """
        who = authentication.caller_of(req)
        payment = visibility.changeable(payment_id, who)
        if body.status is not PaymentStatus.CANCELLED and not who.may(Permission.SETTLE_BY_HAND):
            authentication.deny(who, Permission.SETTLE_BY_HAND)
        decided = False
        if (
            body.status is PaymentStatus.FAILED
            and payment_jobs.is_with_psp(payment)
            and not idempotency.known(req)
        ):
            decided = inquiry.decided(req, payment)

        def do() -> dict[str, Any]:
            if body.status is PaymentStatus.FAILED:
                return schemas.payment(changes.fail(payment_id, body.reason, decided=decided), who)
            if body.status is PaymentStatus.CANCELLED:
                return schemas.payment(changes.cancel(payment_id, body.reason), who)
            raise payment_jobs.StatusNotSettable(
                PaymentType(payment.type), payment.status, target=body.status
            )

        cancels = body.status is PaymentStatus.CANCELLED
        return Accepted(do, changes.when_cancelled(who) if cancels else changes.when_in(TERMINAL, who))
