"""The payments routes: making them, seeing them, changing them."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from falcon import Request

from actors import allowance, edits, lifecycle, steps
from actors import payments as life
from actors.verbs import transaction
from api.gateway import caller, etag, prefer
from api.gateway.body import Invalid
from api.gateway.operation import Accepted, Tagged, operation
from api.payments import answers, changes, shapes, sight
from api.policies import Caller, Forbidden, Permission
from api.shapes import listed
from db import config, money, payments
from db.fault import NotFound
from db.payments import Payment
from db.states import FINAL, Status


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
        page = payments.page(sight.of(who), wish.filter, limit=wish.limit, after=wish.place)
        shown = shapes.payments(page.items, who)
        return listed(page, lambda it: shown[it.id])

    @operation(
        Permission.CREATE_PAYMENT,
        "Payment accepted.",
        name="createPayment",
        takes=shapes.NewPayment,
        gives=answers.Payment,
        refuses=(
            NotFound,
            life.RequestNotPayable,
            life.RequestChanged,
            life.NoVendor,
            allowance.NotVerified,
            allowance.TooManyPayments,
        ),
        examples=shapes.NEW_PAYMENTS,
        status=201,
        idempotent=True,
        waits=True,
        guarded=True,
    )
    def on_post(self, req: Request, wish: shapes.AnyNewPayment) -> Accepted:
        """Accepts a payment or a request for one; the actors do the rest.

        A payment of a request is bound to what the payer saw by `amount` and `currency`, or by `If-Match`
        with the request's `ETag`; on other bodies `If-Match` says nothing.
        """
        who = caller.of(req)
        asks = isinstance(wish, shapes.NewPaymentRequest)
        needed = Permission.REQUEST_MONEY if asks else Permission.PAY
        if not who.may(needed):
            caller.refuse(who, needed)
        if not isinstance(wish, shapes.NewPaymentOfRequest):
            _affordable(wish.amount)
        ends = FINAL | {Status.INITIATED}
        return Accepted(lambda: shapes.payment(_create(req, wish, who), who), changes.when_in(ends, who))


class OnePayment:
    """GET, PUT, DELETE /payments/:id"""

    @operation(
        Permission.SEE_PAYMENTS, "Payment.", name="getPayment", gives=answers.Payment, one=True, waits=True
    )
    def on_get(self, req: Request, payment_id: UUID) -> Tagged:
        """One payment, if the caller may see it.

        With `If-None-Match` and `Prefer: wait=N` the answer waits for another version: 200 as soon as there
        is one, 304 after N seconds.
        """
        who = caller.of(req)
        payment = sight.visible(payment_id, who)
        waits = bool(prefer.seconds(req)) and etag.known(req, payment.version)
        if waits:
            payment = prefer.another(req, lambda: _newer(payment_id, who, req)) or payment
        return Tagged(shapes.payment(payment, who), payment.version, waits)

    @operation(
        Permission.CHANGE_PAYMENTS,
        "Payment changed.",
        name="updatePayment",
        takes=shapes.PaymentChanges,
        gives=answers.Payment,
        refuses=(edits.NotEditable,),
        examples={"words": {"description": "Lunch for two"}, "terms": {"amount": "79.00", "currency": "EUR"}},
        one=True,
        guarded=True,
    )
    def on_put(self, req: Request, payment_id: UUID, wish: shapes.PaymentChanges) -> Tagged:
        """Changes the fields that are named: words until it is final, terms while nobody is paying."""
        who = caller.of(req)
        sight.changeable(payment_id, who)
        with transaction():
            payment = steps.locked(payment_id)
            etag.must_match(req, payment.version)
            edits.may_be_edited(payment, wish.named)
            edited = edits.edit(payment, _fitting(payment, wish.named))
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
        sight.changeable(payment_id, who)
        return Accepted(
            lambda: shapes.payment(changes.cancel(payment_id, None), who), changes.when_cancelled(who)
        )


def _newer(payment_id: UUID, who: Caller, req: Request) -> Payment | None:
    payment = sight.visible(payment_id, who)
    return None if etag.known(req, payment.version) else payment


def _create(req: Request, wish: shapes.AnyNewPayment, who: Caller) -> Payment:
    if isinstance(wish, shapes.NewPaymentOfRequest):
        if etag.has_condition(req):
            # Locked from here on, so that the version still holds when the payment is made.
            request = life.payable_request(wish.request_id, who.user_id)
            etag.must_match(req, request.version)
        return life.pay_request(
            wish.request_id,
            customer_id=who.user_id,
            description=wish.description,
            metadata=wish.metadata,
            amount=wish.amount,
            currency=wish.currency,
        )
    assert wish.currency is not None, "the shape has a default"
    made = life.Wish(wish.amount, wish.currency, wish.description, wish.metadata, wish.customer_email)
    if isinstance(wish, shapes.NewPaymentRequest):
        return life.ask(made, vendor_id=who.user_id)
    return life.pay(made, customer_id=who.user_id)


def _fitting(payment: Payment, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, if amount and currency still fit together afterwards. Raises Invalid."""
    currency = changes.get("currency", payment.currency)
    # As it is kept, it has the decimals of every currency.
    amount: Decimal = changes.get("amount", payment.amount.normalize())
    if "amount" in changes:
        _affordable(amount)
    if not money.fits(amount, currency):
        field = "amount" if "amount" in changes else "currency"
        message = f"{currency} has {money.decimals(currency)} decimals"
        raise Invalid({"fields": [{"field": field, "message": message}]})
    return changes


def _affordable(amount: Decimal) -> None:
    """Raises Invalid for more than is allowed now."""
    largest = config.number(config.Key.PAYMENTS_MAX_AMOUNT)
    if amount > largest:
        message = f"must not be more than {largest}"
        raise Invalid({"fields": [{"field": "amount", "message": message}]})
