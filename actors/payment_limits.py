"""How much one customer may pay: limits that an operator sets, which cost nothing while they are off."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from db import config, payments, users
from db.config import ConfigKey
from db.core import times
from db.core.errors import DomainError, ErrorCode
from db.users import User

WINDOW = timedelta(hours=24)


class TooManyPayments(DomainError):
    """No more than {limit} payments may be made in 24 hours: try again in {seconds} s."""

    code = ErrorCode.RATE_LIMITED

    def __init__(self, limit: int, seconds: int) -> None:
        self.retry_after = seconds
        super().__init__({"retryAfter": seconds}, limit=limit, seconds=seconds)


class NotVerified(DomainError):
    """No more than {limit} {currency} may be paid in 24 hours until the e-mail address is verified."""

    code = ErrorCode.FORBIDDEN

    def __init__(self, limit: Decimal, currency: str) -> None:
        super().__init__({"reason": "email_unverified"}, limit=limit, currency=currency)


def hold(customer_id: UUID) -> User | None:
    """Locks the customer, before any payment, so that of two payments at once the second counts the first.

    None while there are no limits.
    """
    limits = (
        config.value(ConfigKey.PAYMENTS_DAILY_LIMIT),
        config.value(ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT),
    )
    return None if limits == (None, None) else users.locked(customer_id)


def check(customer: User | None, amount: Decimal, currency: str) -> None:
    """Lets this customer, who is held, pay so much more. Raises TooManyPayments, NotVerified."""
    if customer is None:
        return
    now = times.now()
    most: int | None = config.value(ConfigKey.PAYMENTS_DAILY_LIMIT)
    oldest = payments.nth_newest_payment_at(customer.id, most, now - WINDOW) if most else None
    if most and oldest:
        raise TooManyPayments(most, max(1, int((oldest + WINDOW - now).total_seconds()) + 1))
    unverified: str | None = config.value(ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT)
    if unverified and not customer.email_verified:
        limit = Decimal(unverified)
        if payments.recent_amount(customer.id, currency, now - WINDOW) + amount > limit:
            raise NotVerified(limit, currency)
