"""Limits of a customer's payments in 24 hours, set by an operator. While they are off they cost nothing."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from db import config, payments, users
from db.config import ConfigKey
from db.core import times
from db.core.errors import DomainError, ErrorCode
from db.users import User

WINDOW = timedelta(hours=24)


class TooManyPayments(DomainError, code=ErrorCode.RATE_LIMITED):
    """No more than {limit} payments are accepted in 24 hours. Try again in {seconds} s."""


class EmailNotVerified(DomainError, code=ErrorCode.FORBIDDEN):
    """No more than {limit} {currency} are accepted in 24 hours until the e-mail address is verified."""


def lock_customer(customer_id: UUID) -> User | None:
    """Locks the customer, before any payment: of two concurrent payments the second counts the first.

    Returns None, and locks nothing, while no limit is set.
    """
    limits = (ConfigKey.PAYMENTS_DAILY_LIMIT, ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT)
    return users.locked(customer_id) if any(config.value(limit) is not None for limit in limits) else None


def require_within_limits(customer: User | None, amount: Decimal, currency: str) -> None:
    """Checks one more payment of a locked customer. Raises TooManyPayments, EmailNotVerified."""
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
