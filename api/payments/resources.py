"""The payments routes: making them, seeing them, changing them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

from falcon import Request

from actors import lifecycle, origin
from actors import payments as life
from actors.lifecycle import Step
from actors.verbs import promise, transaction
from api.gateway import caller, etag, idempotency
from api.gateway.body import Invalid
from api.gateway.operation import Accepted, Tagged, operation
from api.payments import answers, inquiry, shapes
from api.policies import Caller, Forbidden, Permission
from db import money, payments, psp_attempts, statements
from db.auth import Role
from db.fault import NotFound
from db.payments import Payment, Seen
from db.states import FINAL, Status, Type


class Payments:
    """GET, POST /payments"""

    @operation(
        Permission.SEE_PAYMENTS,
        "Payments.",
        name="listPayments",
        asks=shapes.PaymentsQuery,
        gives=answers.Payments,
        refuses=(Forbidden,),
    )
    def on_get(self, req: Request, wish: shapes.PaymentsQuery) -> dict[str, Any]:
        """The caller's own set, newest first. `needsReview` is for administrators."""
        who = caller.of(req)
        if wish.needs_review is not None and not who.may(Permission.SETTLE_BY_HAND):
            caller.refuse(who, Permission.SETTLE_BY_HAND)
        page = payments.page(_seen_by(who), wish.filter, limit=wish.limit, after=wish.place)
        return shapes.page(page, lambda it: shapes.payment(it, who))

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
        waits=True,
    )
    def on_post(self, req: Request, wish: shapes.NewPayment) -> Accepted:
        """Accepts a payment or a request for one; the actors do the rest."""
        who = caller.of(req)
        needed = Permission.REQUEST_MONEY if wish.type is Type.INITIATE else Permission.PAY
        if not who.may(needed):
            caller.refuse(who, needed)
        ends = FINAL | {Status.INITIATED}
        return Accepted(lambda: shapes.payment(_create(wish, who), who), _when_in(ends, who))


class OnePayment:
    """GET, PUT, DELETE /payments/:id"""

    @operation(Permission.SEE_PAYMENTS, "Payment.", name="getPayment", gives=answers.Payment, one=True)
    def on_get(self, req: Request, payment_id: UUID) -> Tagged:
        """One payment, if the caller may see it."""
        who = caller.of(req)
        payment = payments.seen(payment_id, _seen_by(who)) or _link(payment_id, who)
        if payment is None:
            raise NotFound(thing="payment")
        return Tagged(shapes.payment(payment, who), payment.version)

    @operation(
        Permission.CHANGE_PAYMENTS,
        "Payment changed.",
        name="updatePayment",
        takes=shapes.PaymentChanges,
        gives=answers.Payment,
        refuses=(life.NotEditable,),
        examples={"words": {"description": "Lunch for two"}, "terms": {"amount": "79.00", "currency": "EUR"}},
        one=True,
        guarded=True,
    )
    def on_put(self, req: Request, payment_id: UUID, wish: shapes.PaymentChanges) -> Tagged:
        """Changes the fields that are named: words until it is final, terms while nobody is paying."""
        who = caller.of(req)
        _changeable(payment_id, who)
        with transaction():
            payment = _locked(payment_id)
            etag.must_match(req, payment.version)
            edited = life.edit(payment, _fitting(payment, wish.named))
        return Tagged(shapes.payment(edited, who), edited.version)

    @operation(
        Permission.CHANGE_PAYMENTS,
        "Cancellation accepted.",
        name="cancelPayment",
        gives=answers.Payment,
        refuses=(lifecycle.Refused,),
        status=202,
        waits=True,
    )
    def on_delete(self, req: Request, payment_id: UUID) -> Accepted:
        """Cancels what nobody has begun to pay."""
        who = caller.of(req)
        _changeable(payment_id, who)
        return Accepted(lambda: shapes.payment(_cancel(payment_id, None), who), _when_in(FINAL, who))


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
        payment = _changeable(payment_id, who)
        if wish.status is not Status.CANCELLED and not who.may(Permission.SETTLE_BY_HAND):
            caller.refuse(who, Permission.SETTLE_BY_HAND)
        decided = False
        if wish.status is Status.FAILED and life.with_the_psp(payment) and not idempotency.known(req):
            decided = inquiry.decided(req, payment_id)

        def do() -> dict[str, Any]:
            if wish.status is Status.FAILED:
                return shapes.payment(_fail(payment_id, wish.reason, decided=decided), who)
            if wish.status is Status.CANCELLED:
                return shapes.payment(_cancel(payment_id, wish.reason), who)
            raise life.OthersDecide(status=wish.status)

        return Accepted(do, _when_in(FINAL, who))


class History:
    """GET /payments/history"""

    @operation(
        Permission.SEE_PAYMENTS,
        "History.",
        name="listHistory",
        asks=shapes.HistoryQuery,
        gives=answers.History,
    )
    def on_get(self, req: Request, wish: shapes.HistoryQuery) -> dict[str, Any]:
        """Every change of status in the caller's own set, newest first."""
        found = payments.moves(
            _seen_by(caller.of(req)),
            payment_id=wish.payment_id,
            from_=wish.from_,
            to=wish.to,
            limit=wish.limit,
            after=wish.place,
        )
        return shapes.page(found, shapes.move)


class Attempts:
    """GET /payments/:id/attempts"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Attempts.",
        name="listAttempts",
        asks=shapes.AttemptsQuery,
        gives=answers.Attempts,
    )
    def on_get(self, _req: Request, payment_id: UUID, wish: shapes.AttemptsQuery) -> dict[str, Any]:
        """What the PSP was asked about a payment, newest first, and why a person should look at it."""
        payment = payments.get(payment_id)
        if payment is None:
            raise NotFound(thing="payment")
        page = psp_attempts.page(payment.id, limit=wish.limit, after=wish.place)
        return {"review": payment.review, **shapes.page(page, shapes.attempt)}


class Differences:
    """GET /payments/differences"""

    @operation(
        Permission.SETTLE_BY_HAND,
        "Differences.",
        name="listDifferences",
        asks=shapes.DifferencesQuery,
        gives=answers.Differences,
    )
    def on_get(self, _req: Request, wish: shapes.DifferencesQuery) -> dict[str, Any]:
        """Where a day's statement of the PSP and the payments disagree."""
        matched = statements.matched(wish.day)
        found = statements.differences(wish.day) if matched else []
        return {
            "day": wish.day.isoformat(),
            "matched": matched,
            "items": [
                {
                    "reference": it.reference,
                    "paymentId": str(it.payment_id) if it.payment_id else None,
                    "reason": it.reason,
                }
                for it in found
            ],
        }


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


def _cancel(payment_id: UUID, reason: str | None) -> Payment:
    payment = _locked(payment_id)
    lifecycle.after(Type(payment.type), Status(payment.status), Step.CANCEL)
    promise(life.cancel.message(payment.id, reason, origin.current()))
    return payment


def _fail(payment_id: UUID, reason: str | None, *, decided: bool) -> Payment:
    payment = _locked(payment_id)
    if decided:
        # The PSP knows how it ends, and that is on its way, or has come.
        return payment
    lifecycle.after(Type(payment.type), Status(payment.status), Step.FAIL)
    if life.with_the_psp(payment) and not life.lost(payment):
        raise life.Undecided
    promise(life.fail.message(payment.id, reason, origin.current()))
    return payment


def _fitting(payment: Payment, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, if amount and currency still fit together afterwards. Raises Invalid."""
    currency = changes.get("currency", payment.currency)
    amount: Decimal = changes.get("amount", payment.amount)
    if not money.fits(amount, currency):
        field = "amount" if "amount" in changes else "currency"
        message = f"{currency} has {money.decimals(currency)} decimals"
        raise Invalid({"fields": [{"field": field, "message": message}]})
    return changes


def _when_in(ends: frozenset[Status], who: Caller) -> Callable[[UUID], dict[str, Any] | None]:
    """What the payment is, once it stands in one of these."""

    def ask(payment_id: UUID) -> dict[str, Any] | None:
        payment = payments.get(payment_id)
        return shapes.payment(payment, who) if payment and payment.status in ends else None

    return ask


def _locked(payment_id: UUID) -> Payment:
    payment = payments.locked(payment_id)
    if payment is None:
        raise NotFound(thing="payment")
    return payment


def _changeable(payment_id: UUID, who: Caller) -> Payment:
    """One of the caller's own set that is theirs to change, too. Raises NotFound, Forbidden."""
    payment = payments.seen(payment_id, _seen_by(who))
    if payment is None:
        raise NotFound(thing="payment")
    if not shapes.may_change(payment, who):
        caller.refuse(who, Permission.CHANGE_PAYMENTS)
    return payment


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
