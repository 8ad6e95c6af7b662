"""Whether a customer can pay: what a request, its vendor, the configuration and the limits allow."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from actors import state_machine, transitions
from actors.state_machine import Transition
from db import config, payments, users
from db.config import ConfigKey
from db.core import money, times
from db.core.errors import DomainError, ErrorCode, NotFound
from db.payments import Payment
from db.shown_payments import ShownPayment
from db.states import PaymentType
from db.users import User

# The period whose payments count towards a customer's limits. Without limits, nothing is locked or counted.
WINDOW = timedelta(hours=24)


class RequestNotPayable(DomainError, code=ErrorCode.REQUEST_NOT_PAYABLE):
    """The payment request cannot be paid: {reason}."""


class TooManyPayments(DomainError, code=ErrorCode.RATE_LIMITED):
    """No more than {limit} payments are accepted in 24 hours. Try again in {seconds} s."""


class EmailNotVerified(DomainError, code=ErrorCode.FORBIDDEN):
    """No more than {limit} {currency} are accepted in 24 hours until the e-mail address is verified."""


class RequestChanged(DomainError, code=ErrorCode.REQUEST_CHANGED):
    """The payment request is now for {amount} {currency}. Nothing was paid."""


def lock_customer(customer_id: UUID) -> User | None:
    """Locks the customer, before any payment: of two concurrent payments the second counts the first.

    Returns None, and locks nothing, while no limit is set.
    """
    limits = (ConfigKey.PAYMENTS_DAILY_LIMIT, ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT)
    return users.locked(customer_id) if any(config.value(limit) is not None for limit in limits) else None


def require_within_limits(customer: User | None, amount: Decimal, currency: str) -> None:
    """Raises TooManyPayments or EmailNotVerified if one more payment of a locked customer is too much.

    None as the customer means that no limit is set.
    """
    if customer is None:
        return
    now = times.now()
    max_payments: int | None = config.value(ConfigKey.PAYMENTS_DAILY_LIMIT)
    oldest = payments.nth_newest_payment_at(customer.id, max_payments, now - WINDOW) if max_payments else None
    if max_payments and oldest:
        wait_s = max(1, int((oldest + WINDOW - now).total_seconds()) + 1)
        raise TooManyPayments(retry_after=wait_s, limit=max_payments)
    max_unverified: str | None = config.value(ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT)
    if max_unverified and not customer.email_verified:
        limit = Decimal(max_unverified)
        if payments.recent_amount(customer.id, currency, now - WINDOW) + amount > limit:
            raise EmailNotVerified({"reason": "email_unverified"}, limit=limit, currency=currency)


def lock_payable(
    request_id: UUID, customer_id: UUID, *, amount: Decimal | None = None, currency: str | None = None
) -> Payment:
    """Locks a request that the customer may pay now, to the end of the transaction.

    `amount` and `currency`, if given, are the terms that the customer saw. Raises NotFound,
    RequestNotPayable, TooManyPayments, EmailNotVerified, and RequestChanged if the request has other terms by
    now.
    """
    customer = lock_customer(customer_id)
    request = payments.lock([request_id]).get(request_id)
    if request is None or not is_offered_to(request, customer_id):
        raise NotFound(thing="payment request")
    is_active = bool(users.active_vendors([request.user_id]))
    if reason := obstacle(request, customer_id, vendor_is_active=is_active):
        raise RequestNotPayable(reason=reason)
    require_within_limits(customer, request.amount, request.currency)
    if (amount or request.amount, currency or request.currency) != (request.amount, request.currency):
        now = money.text(request.amount, request.currency)
        raise RequestChanged(
            {"amount": now, "currency": request.currency}, amount=now, currency=request.currency
        )
    return request


def is_offered_to(payment: Payment | ShownPayment, customer_id: UUID) -> bool:
    """Returns whether the customer may see and pay this request: addressed to them, or to nobody."""
    offered = payment.customer_email is None or payment.addressee_id == customer_id
    return payment.type == PaymentType.INITIATE and offered


def obstacle(request: Payment | ShownPayment, customer_id: UUID, *, vendor_is_active: bool) -> str | None:
    """Returns why the customer cannot pay a request now; None if they can."""
    if not state_machine.is_allowed(request.type, request.status, Transition.ENGAGE):
        return f"its status is {request.status}"
    if request.user_id == customer_id:
        return "it is the payer's own"
    if not vendor_is_active:
        return transitions.NO_VENDOR
    largest = config.number(ConfigKey.PAYMENTS_MAX_AMOUNT)
    if request.amount > largest:
        return f"payments of more than {largest} are not accepted now"
    return None
