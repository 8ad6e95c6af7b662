"""POST /payments/:id/status: cancelled, or failed, by hand."""

from typing import Any
from uuid import UUID

from falcon import Request

from actors import lifecycle
from actors import payments as life
from api.gateway import caller, idempotency
from api.gateway.operation import Accepted, operation
from api.payments import answers, changes, inquiry, shapes, sight
from api.policies import Permission
from db.states import FINAL, Status, Type


class OneStatus:
    """POST /payments/:id/status"""

    @operation(
        Permission.CHANGE_PAYMENTS,
        "Change accepted.",
        name="changePaymentStatus",
        takes=shapes.NewStatus,
        gives=answers.Payment,
        refuses=(lifecycle.Refused, life.Undecided, life.OthersDecide),
        examples={"cancel": {"status": "cancelled", "reason": "Ordered twice"}},
        status=202,
        idempotent=True,
        waits=True,
    )
    def on_post(self, req: Request, payment_id: UUID, wish: shapes.NewStatus) -> Accepted:
        """Cancels, or (as an administrator) fails a payment.

        What the PSP has in its hands is failed only if the PSP, asked first, has no such order and can get
        none any more; if it has charged, the payment completes.
        """
        who = caller.of(req)
        payment = sight.changeable(payment_id, who)
        if wish.status is not Status.CANCELLED and not who.may(Permission.SETTLE_BY_HAND):
            caller.refuse(who, Permission.SETTLE_BY_HAND)
        decided = False
        if wish.status is Status.FAILED and life.with_the_psp(payment) and not idempotency.known(req):
            decided = inquiry.decided(req, payment)

        def do() -> dict[str, Any]:
            if wish.status is Status.FAILED:
                return shapes.payment(changes.fail(payment_id, wish.reason, decided=decided), who)
            if wish.status is Status.CANCELLED:
                return shapes.payment(changes.cancel(payment_id, wish.reason), who)
            raise life.OthersDecide(Type(payment.type), payment.status, target=wish.status)

        cancels = wish.status is Status.CANCELLED
        return Accepted(do, changes.when_cancelled(who) if cancels else changes.when_in(FINAL, who))
