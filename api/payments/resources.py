"""The payments routes."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from falcon import Request

from actors import payments as life
from api.gateway import caller
from api.gateway.operation import Tagged, operation
from api.payments import answers, shapes
from api.policies import Caller, Permission
from db import payments
from db.auth import Role
from db.fault import NotFound
from db.payments import Payment, Seen
from db.states import Type


class Payments:
    """GET, POST /payments"""

    @operation(
        Permission.SEE_PAYMENTS,
        "Payments.",
        name="listPayments",
        asks=shapes.PaymentsQuery,
        gives=answers.Payments,
    )
    def on_get(self, req: Request, wish: shapes.PaymentsQuery) -> dict[str, Any]:
        """The caller's own set, newest first."""
        who = caller.of(req)
        page = payments.page(_seen_by(who), wish.filter, limit=wish.limit, after=wish.place)
        return {
            "items": [shapes.payment(it, who) for it in page.items],
            "pagination": {"limit": page.limit, "nextCursor": page.next_cursor},
        }

    @operation(
        Permission.CREATE_PAYMENT,
        "Payment accepted.",
        name="createPayment",
        takes=shapes.NewPayment,
        gives=answers.Payment,
        refuses=(NotFound, life.RequestNotPayable),
        examples=shapes.NEW_PAYMENTS,
        status=201,
        idempotent=True,
    )
    def on_post(self, req: Request, wish: shapes.NewPayment) -> Callable[[], dict[str, Any]]:
        """Accepts a payment or a request for one; the actors do the rest."""
        who = caller.of(req)
        needed = Permission.REQUEST_MONEY if wish.type is Type.INITIATE else Permission.PAY
        if not who.may(needed):
            caller.refuse(who, needed)
        return lambda: shapes.payment(_create(wish, who), who)


class OnePayment:
    """GET /payments/:id"""

    @operation(Permission.SEE_PAYMENTS, "Payment.", name="getPayment", gives=answers.Payment, one=True)
    def on_get(self, req: Request, payment_id: UUID) -> Tagged:
        """One payment, if the caller may see it."""
        who = caller.of(req)
        payment = payments.seen(payment_id, _seen_by(who)) or _link(payment_id, who)
        if payment is None:
            raise NotFound(thing="payment")
        return Tagged(shapes.payment(payment, who), payment.version)


def _create(wish: shapes.NewPayment, who: Caller) -> Payment:
    if wish.request_id:
        return life.pay_request(
            wish.request_id,
            customer_id=who.user_id,
            customer_email=who.email,
            description=wish.description,
            metadata=wish.metadata,
        )
    assert wish.amount is not None, "the shape asks for it where there is no request"
    assert wish.currency is not None, "the shape has a default where there is no request"
    made = life.Wish(wish.amount, wish.currency, wish.description, wish.metadata, wish.customer_email)
    if wish.type is Type.INITIATE:
        return life.ask(made, vendor_id=who.user_id)
    return life.pay(made, customer_id=who.user_id)


def _seen_by(who: Caller) -> Seen:
    """The caller's own set, as lists show it."""
    if who.role is Role.ADMIN:
        return Seen()
    if who.role is Role.VENDOR:
        return Seen(payee_id=who.user_id)
    return Seen(user_id=who.user_id, customer_email=who.email)


def _link(payment_id: UUID, who: Caller) -> Payment | None:
    """A request that this customer may pay because they know its id."""
    payment = payments.get(payment_id) if who.role is Role.CUSTOMER else None
    return payment if payment is not None and life.meant_for(payment, who.email) else None
