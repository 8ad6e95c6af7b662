"""The routes of payments: create, list, read, change and cancel them, and read their history."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from falcon import Request

from actors import payable, payment_edits, payment_endings, payment_jobs, state_machine, transitions
from actors.jobs import transaction
from api.http import etag
from api.http.body import ValidationFailed
from api.http.operation import IS_AWAITED, Operation, Rendered, Versioned
from api.middleware import authentication
from api.payments import acceptance, prefer_wait, schemas, status_changes, visibility
from api.security.permissions import Caller, Forbidden, Permission
from db import config, idempotency, payments, shown_payments
from db.core import money
from db.core.errors import NotFound
from db.idempotency import NewKey
from db.states import TERMINAL, PaymentStatus


@Operation(Permission.SEE_PAYMENTS, "Payments.", errors=(Forbidden,))
def list_payments(req: Request, query: schemas.PaymentsQuery) -> schemas.PaymentPage:
    """List payments.

    Returns the payments and payment requests that you may see, newest first. `needsReview` is for
    administrators.
    """
    caller = authentication.caller_of(req)
    if query.needs_review is not None:
        _require(caller, Permission.SETTLE_BY_HAND)
    page = shown_payments.page(visibility.scope(caller), query.filter, limit=query.limit, after=query.after)
    return schemas.PaymentPage.of(page, lambda row: schemas.Payment.for_caller(row, caller))


@Operation(
    Permission.CREATE_PAYMENT,
    "Payment accepted.",
    body=schemas.NewPayment,
    response=schemas.Payment,
    errors=(
        NotFound,
        payable.RequestNotPayable,
        payable.RequestChanged,
        payment_jobs.NotAVendor,
        payable.EmailNotVerified,
        payable.TooManyPayments,
        acceptance.IdempotencyInProgress,
        acceptance.IdempotencyMismatch,
    ),
    examples=schemas.NEW_PAYMENT_EXAMPLES,
    status=201,
    idempotent=True,
    prefer_wait=True,
    if_match=True,
)
def create_payment(req: Request, body: schemas.AnyNewPayment) -> Rendered:
    """Create a payment or a payment request.

    The response is sent as soon as the payment is stored; the payment is processed afterwards. A payment
    of a request is bound to what the payer saw by `amount` and `currency`, or by `If-Match` with the
    `ETag` of the request. Other bodies ignore `If-Match`.
    """
    caller = authentication.caller_of(req)
    creates_request = isinstance(body, schemas.NewPaymentRequest)
    _require(caller, Permission.REQUEST_MONEY if creates_request else Permission.PAY)
    if not isinstance(body, schemas.NewPaymentOfRequest):
        _check_maximum(body.amount)
    settled = TERMINAL | {PaymentStatus.INITIATED}
    return acceptance.accept_once(
        req,
        body,
        change=lambda key: _create(req, body, caller, key),
        is_settled=lambda payment: payment.status in settled,
    )


@Operation(Permission.SEE_PAYMENTS, "Payment.", response=schemas.Payment, etag=True, prefer_wait=True)
def get_payment(req: Request, payment_id: UUID) -> Versioned:
    """Get a payment.

    With `If-None-Match` and `Prefer: wait=N` the response waits for another version: 200 as soon as there
    is one, 304 after N seconds.
    """
    caller = authentication.caller_of(req)
    payment = visibility.get_visible(payment_id, caller)
    headers: dict[str, str] = {}
    timeout_s = prefer_wait.seconds(req)
    if timeout_s and etag.known(req, payment.version):
        with prefer_wait.waiting(req):
            is_awaited = req.env.get(IS_AWAITED, lambda: True)
            caller = prefer_wait.wait_for_version(payment, caller, timeout_s, is_awaited)
        payment, headers = visibility.get_visible(payment_id, caller), prefer_wait.applied(req)
    return Versioned(schemas.Payment.for_caller(payment, caller), payment.version, headers)


@Operation(
    Permission.CHANGE_PAYMENTS,
    "Payment updated.",
    response=schemas.Payment,
    errors=(payment_edits.NotEditable,),
    examples={
        "description": {"description": "Lunch for two"},
        "amount": {"amount": "79.00", "currency": "EUR"},
    },
    etag=True,
    if_match=True,
)
def update_payment(req: Request, payment_id: UUID, body: schemas.PaymentUpdate) -> Versioned:
    """Update a payment.

    Changes the fields that the body contains. `description` and `metadata` can be changed until the
    payment is completed, failed or cancelled; `amount`, `currency` and `customerEmail` only of a payment
    request that nobody is paying.
    """
    caller = authentication.caller_of(req)
    visibility.get_changeable(payment_id, caller)
    with transaction():
        payment = transitions.locked(payment_id)
        etag.require_match(req, payment.version)
        payment_edits.require_editable(payment, body.named)
        _check_amount(payment, body.named)
        edited = payment_edits.edit(payment, body.named)
    return Versioned(schemas.Payment.for_caller(edited, caller), edited.version)


@Operation(
    Permission.CHANGE_PAYMENTS,
    "Cancellation accepted.",
    response=schemas.Payment,
    errors=(state_machine.TransitionRefused,),
    status=202,
    prefer_wait=True,
)
def cancel_payment(req: Request, payment_id: UUID) -> Rendered:
    """Cancel a payment.

    Cancels a payment request that nobody is paying, or a payment that is still `pending`. The
    cancellation is applied after the response.
    """
    caller = authentication.caller_of(req)
    visibility.get_changeable(payment_id, caller)
    return acceptance.accept(
        req, change=lambda: status_changes.cancel(payment_id, None), is_settled=status_changes.is_cancelled
    )


@Operation(
    Permission.CHANGE_PAYMENTS,
    "Change accepted.",
    response=schemas.Payment,
    errors=(
        state_machine.TransitionRefused,
        payment_endings.OutcomeUnknown,
        payment_endings.OtherAmountDecided,
        payment_endings.StatusNotSettable,
        acceptance.IdempotencyInProgress,
        acceptance.IdempotencyMismatch,
    ),
    examples={"cancel": {"status": "cancelled", "reason": "Ordered twice"}},
    status=202,
    idempotent=True,
    prefer_wait=True,
)
def change_payment_status(req: Request, payment_id: UUID, body: schemas.StatusChange) -> Rendered:
    """Cancel or fail a payment.

    Vendors cancel their payment requests; administrators cancel or fail any payment. A payment that
    is `processing` fails only if the payment provider confirms that it has no such charge and can receive
    none any more. If the provider has charged the payment, the payment completes. If the provider has
    decided about another amount, the response is a 409, and the payment is ended with its review.
    """
    caller = authentication.caller_of(req)
    payment = visibility.get_changeable(payment_id, caller)
    if body.status is PaymentStatus.CANCELLED:
        return acceptance.accept_once(
            req,
            body,
            change=lambda key: _with_key(key, status_changes.cancel(payment_id, body.reason)),
            is_settled=status_changes.is_cancelled,
        )
    _require(caller, Permission.SETTLE_BY_HAND)
    if body.status is not PaymentStatus.FAILED:
        raise payment_endings.StatusNotSettable(payment.type, payment.status, target=body.status)
    # The inquiry of `has_psp_decided` takes seconds: it comes last, and a repeated request makes none.
    decided = (
        payment_endings.is_with_psp(payment)
        and not acceptance.has_stored_response(req)
        and status_changes.has_psp_decided(payment)
    )
    return acceptance.accept_once(
        req,
        body,
        change=lambda key: _with_key(key, status_changes.fail(payment_id, body.reason, decided=decided)),
        is_settled=lambda payment: payment.status in TERMINAL,
    )


@Operation(Permission.SEE_PAYMENTS, "Transactions.")
def list_payment_transactions(req: Request, query: schemas.HistoryQuery) -> schemas.PaymentTransactionPage:
    """List the transactions of your payments.

    Returns every change of status of the payments and payment requests that you may see, newest first.
    """
    page = shown_payments.transactions(
        visibility.scope(authentication.caller_of(req)),
        payment_id=query.payment_id,
        from_=query.from_,
        to=query.to,
        limit=query.limit,
        after=query.after,
    )
    return schemas.PaymentTransactionPage.of(page, schemas.PaymentTransaction.of)


def _require(caller: Caller, permission: Permission) -> None:
    """Requires a permission of the caller's role. Raises Forbidden, after an audit entry."""
    if not caller.may(permission):
        authentication.deny(caller.role, permission)


def _create(
    req: Request, body: schemas.AnyNewPayment, caller: Caller, key: NewKey | None
) -> payments.Payment:
    if isinstance(body, schemas.NewPaymentRequest):
        return payment_jobs.create_request(vendor_id=caller.user_id, key=key, **body.columns())
    if isinstance(body, schemas.NewPaymentOnItsOwn):
        return payment_jobs.create_payment(customer_id=caller.user_id, key=key, **body.columns())
    if etag.has_condition(req):
        # Locked from here on, so that the version still holds when the payment is created.
        request = payable.lock_payable(body.request_id, caller.user_id)
        etag.require_match(req, request.version)
    return payment_jobs.pay_request(customer_id=caller.user_id, key=key, **body.columns())


def _with_key(key: NewKey | None, payment: payments.Payment) -> payments.Payment:
    """Stores the key in the transaction of a change that was just made."""
    if key:
        idempotency.store(key, payment)
    return payment


def _check_amount(payment: payments.Payment, changes: dict[str, Any]) -> None:
    """Checks that amount and currency are valid together after these changes. Raises ValidationFailed."""
    currency = changes.get("currency", payment.currency)
    # The column pads the amount to two decimals.
    amount: Decimal = changes.get("amount", payment.amount.normalize())
    if "amount" in changes:
        _check_maximum(amount)
    if not money.fits(amount, currency):
        field = "amount" if "amount" in changes else "currency"
        raise ValidationFailed.of(field, f"{currency} has {money.decimals(currency)} decimals")


def _check_maximum(amount: Decimal) -> None:
    """Checks the amount against `payments.maxAmount`. Raises ValidationFailed."""
    largest = config.number(config.ConfigKey.PAYMENTS_MAX_AMOUNT)
    if amount > largest:
        raise ValidationFailed.of("amount", f"must not be more than {largest}")
