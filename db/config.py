"""What an operator may change while everything runs: the keys there are, and what each is as long as nobody
says otherwise."""

from decimal import Decimal
from enum import StrEnum

from db.admin import SystemConfig


class Key(StrEnum):
    """A key of the configuration."""

    # The share of payments that the stub approves where they do not say what to simulate: 0 to 1.
    PSP_APPROVAL_RATE = "psp.approvalRate"
    # How long the stub takes to decide, in milliseconds.
    PSP_LATENCY_MS = "psp.latencyMs"
    # For how long a request may be paid, in hours.
    PAYMENTS_REQUEST_TTL_HOURS = "payments.requestTtlHours"


DEFAULTS: dict[Key, Decimal] = {
    Key.PSP_APPROVAL_RATE: Decimal(1),
    Key.PSP_LATENCY_MS: Decimal(0),
    Key.PAYMENTS_REQUEST_TTL_HOURS: Decimal(7 * 24),
}


def number(key: Key) -> Decimal:
    """The value that holds now."""
    row = SystemConfig.get_or_none(SystemConfig.key == key)
    return Decimal(str(row.value)) if row is not None else DEFAULTS[key]
