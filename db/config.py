"""What an operator may change while everything runs: the keys there are, and what each is as long as nobody
says otherwise."""

import time
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


# For how long what was read is good, in seconds: a change is heard of in every process within that time.
_FRESH = 1.0

_read: dict[str, Decimal] = {}
_read_at = float("-inf")


def number(key: Key) -> Decimal:
    """The value that holds now, or did a second ago."""
    global _read, _read_at
    if time.monotonic() - _read_at >= _FRESH:
        _read = {row.key: Decimal(str(row.value)) for row in SystemConfig.select() if row.key in DEFAULTS}
        _read_at = time.monotonic()
    return _read.get(key, DEFAULTS[key])


def forget() -> None:
    """Reads anew next time."""
    global _read_at
    _read_at = float("-inf")
