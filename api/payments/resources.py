"""The payments routes: making them, seeing them, changing them."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from falcon import Request

from actors import payment_edits, payment_jobs, payment_limits, state_machine, transitions
from actors.jobs import transaction
from api.http import etag
from api.http.body import ValidationFailed
from api.http.fields import page_of_items
from api.http.operation import Accepted, Versioned, operation
from api.middleware import authentication
from api.payments import answers, changes, prefer, schemas, visibility
from api.security.permissions import Caller, Forbidden, Permission
from db import config, payments
from db.core import money
from db.core.errors import NotFound
from db.payments import Payment
from db.states import TERMINAL, PaymentStatus


class Payments:
    """GET, POST /payments"""

    @operation(
        Permission.SEE_PAYMENTS,
        "Payments.",
        name="listPayments",
        query=schemas.PaymentsQuery,
        response=answers.PaymentPage,
        errors=(Forbidden,),
    )
    def on_get(self, req: Request, query: schemas.PaymentsQuery) -> dict[str, Any]:
        """The caller's own set, newest first. `needsReview` is for administrators."""
        who = authentication.caller_of(req)
        if query.needs_review is not None and not who.may(Permission.SETTLE_BY_HAND):
            authentication.deny(who, Permission.SETTLE_BY_HAND)
        page = payments.page(visibility.of(who), query.filter, limit=query.limit, after=query.place)
        shown = schemas.payments(page.items, who)
        return page_of_items(page, lambda it: shown[it.id])

    @operation(
        Permission.CREATE_PAYMENT,
        "Payment accepted.",
        name="createPayment",
        body=schemas.NewPayment,
        response=answers.Payment,
        errors=(
            NotFound,
            payment_jobs.RequestNotPayable,
            payment_jobs.RequestChanged,
            payment_jobs.NoVendor,
            payment_limits.NotVerified,
            payment_limits.TooManyPayments,
        ),
        examples=schemas.NEW_PAYMENTS,
        status=201,
        idempotent=True,
        prefer_wait=True,
        if_match=True,
    )
    def on_post(self, req: Request, body: schemas.AnyNewPayment) -> Accepted:
        """Accepts a payment or a request for one; the actors do the rest.

        A payment of a request is bound to what the payer saw by `amount` and `currency`, or by `If-Match`
        with the request's `ETag`; on other bodies `If-Match` says nothing.
        """
        who = authentication.caller_of(req)
        asks = isinstance(body, schemas.NewPaymentRequest)
        needed = Permission.REQUEST_MONEY if asks else Permission.PAY
        if not who.may(needed):
            authentication.deny(who, needed)
        if not isinstance(body, schemas.NewPaymentOfRequest):
            _affordable(body.amount)
        ends = TERMINAL | {PaymentStatus.INITIATED}
        return Accepted(lambda: schemas.payment(_create(req, body, who), who), changes.when_in(ends, who))


class OnePayment:
    """GET, PUT, DELETE /payments/:id"""

    @operation(
        Permission.SEE_PAYMENTS,
        "Payment.",
        name="getPayment",
        response=answers.Payment,
        etag=True,
        prefer_wait=True,
    )
    def on_get(self, req: Request, payment_id: UUID) -> Versioned:
        """One payment, if the caller may see it.

        With `If-None-Match` and `Prefer: wait=N` the answer waits for another version: 200 as soon as there
        is one, 304 after N seconds.
        """
        who = authentication.caller_of(req)
        payment = visibility.visible(payment_id, who)
        waits = bool(prefer.seconds(req)) and etag.known(req, payment.version)
        if waits:
            payment = prefer.another(req, lambda: _newer(payment_id, who, req)) or payment
        return Versioned(schemas.payment(payment, who), payment.version, waits)

    @operation(
        Permission.CHANGE_PAYMENTS,
        "Payment changed.",
        name="updatePayment",
        body=schemas.PaymentUpdate,
        response=answers.Payment,
        errors=(payment_edits.NotEditable,),
        examples={"words": {"description": "Lunch for two"}, "terms": {"amount": "79.00", "currency": "EUR"}},
        etag=True,
        if_match=True,
    )
    def on_put(self, req: Request, payment_id: UUID, body: schemas.PaymentUpdate) -> Versioned:
        """Changes the fields that are named: words until it is final, terms while nobody is paying."""
        who = authentication.caller_of(req)
        visibility.changeable(payment_id, who)
        with transaction():
            payment = transitions.locked(payment_id)
            etag.require_match(req, payment.version)
            payment_edits.may_be_edited(payment, body.named)
            edited = payment_edits.edit(payment, _fitting(payment, body.named))
        return Versioned(schemas.payment(edited, who), edited.version)

    @operation(
        Permission.CHANGE_PAYMENTS,
        "Cancellation accepted.",
        name="cancelPayment",
        response=answers.Payment,
        errors=(state_machine.TransitionRefused,),
        status=202,
        prefer_wait=True,
    )
    def on_delete(self, req: Request, payment_id: UUID) -> Accepted:
        """Cancels what nobody has begun to pay."""
        who = authentication.caller_of(req)
        visibility.changeable(payment_id, who)
        return Accepted(
            lambda: schemas.payment(changes.cancel(payment_id, None), who), changes.when_cancelled(who)
        )


def _newer(payment_id: UUID, who: Caller, req: Request) -> Payment | None:
    payment = visibility.visible(payment_id, who)
    return None if etag.known(req, payment.version) else payment


def _create(req: Request, body: schemas.AnyNewPayment, who: Caller) -> Payment:
    if isinstance(body, schemas.NewPaymentOfRequest):
        if etag.has_condition(req):
            # Locked from here on, so that the version still holds when the payment is made.
            request = payment_jobs.payable_request(body.request_id, who.user_id)
            etag.require_match(req, request.version)
        return payment_jobs.pay_request(
            body.request_id,
            customer_id=who.user_id,
            description=body.description,
            metadata=body.metadata,
            amount=body.amount,
            currency=body.currency,
        )
    assert body.currency is not None, "the shape has a default"
    made = payment_jobs.PaymentTerms(
        body.amount, body.currency, body.description, body.metadata, body.customer_email
    )
    if isinstance(body, schemas.NewPaymentRequest):
        return payment_jobs.create_request(made, vendor_id=who.user_id)
    return payment_jobs.create_payment(made, customer_id=who.user_id)


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
        raise ValidationFailed({"fields": [{"field": field, "message": message}]})
    return changes


def _affordable(amount: Decimal) -> None:
    """Raises Invalid for more than is allowed now."""
    largest = config.number(config.ConfigKey.PAYMENTS_MAX_AMOUNT)
    if amount > largest:
        message = f"must not be more than {largest}"
        raise ValidationFailed({"fields": [{"field": "amount", "message": message}]})
