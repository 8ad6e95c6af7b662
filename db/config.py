"""The configuration that operators change at run time: its keys, their defaults and their present values."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from db import postgres
from db.prepared import Statement


class ConfigKey(StrEnum):
    """The keys of the configuration."""

    PSP_APPROVAL_RATE = "psp.approvalRate"
    PSP_LATENCY_MS = "psp.latencyMs"
    PAYMENTS_MAX_AMOUNT = "payments.maxAmount"
    PAYMENTS_REQUEST_TTL_HOURS = "payments.requestTtlHours"
    PAYMENTS_DAILY_LIMIT = "payments.dailyLimit"
    PAYMENTS_UNVERIFIED_AMOUNT = "payments.unverifiedAmount"
    MAINTENANCE_READ_ONLY = "maintenance.readOnly"
    QUEUES_PAUSED = "queues.paused"


@dataclass(frozen=True)
class Setting:
    """A key's present value and description, and who last changed the value: None for a default value."""

    key: ConfigKey
    value: Any
    description: str
    updated_at: datetime | None = None
    updated_by: UUID | None = None


# Key: default, description.
_DEFAULTS: dict[ConfigKey, tuple[Any, str]] = {
    ConfigKey.PSP_APPROVAL_RATE: (
        1,
        "The share of payments, from 0 to 1, that the stubbed PSP approves when no `simulate` is given.",
    ),
    ConfigKey.PSP_LATENCY_MS: (0, "Milliseconds until the stubbed PSP decides, at most 5000."),
    ConfigKey.PAYMENTS_MAX_AMOUNT: ("99999999.99", "The largest amount of a new payment or request."),
    ConfigKey.PAYMENTS_REQUEST_TTL_HOURS: (7 * 24, "Hours for which a payment request can be paid."),
    ConfigKey.PAYMENTS_DAILY_LIMIT: (
        None,
        "Payments that one customer can make in 24 hours; null means any number.",
    ),
    ConfigKey.PAYMENTS_UNVERIFIED_AMOUNT: (
        None,
        "The amount of one currency that a customer without a verified e-mail address can pay in 24 "
        "hours, open payments included; null means any amount.",
    ),
    ConfigKey.MAINTENANCE_READ_ONLY: (False, "Whether requests that change data are refused with a 503."),
    ConfigKey.QUEUES_PAUSED: (
        [],
        "The queues on which no worker begins a job. The jobs wait; none is lost and none has failed.",
    ),
}
# How long values are cached. A change takes effect in every process within this time, also without Redis.
CACHE_TTL_S = 1.0

# Prepared: each process reads them every second.
READ = Statement("read_config", "SELECT key, value FROM admin.system_config")

_cached: dict[str, Any] = {}
_cached_at = float("-inf")


def value(key: ConfigKey) -> Any:
    """Returns the value of a key, at most CACHE_TTL_S old."""
    global _cached, _cached_at
    if time.monotonic() - _cached_at >= CACHE_TTL_S:
        _cached = _read()
        _cached_at = time.monotonic()
    return _cached.get(key, _DEFAULTS[key][0])


def _read() -> dict[str, Any]:
    return {row["key"]: row["value"] for row in postgres.rows(READ)}


def number(key: ConfigKey) -> Decimal:
    """Returns the value of a key as a number, at most CACHE_TTL_S old."""
    return Decimal(str(value(key)))


def paused_queues() -> frozenset[str]:
    """Returns the queues on which no worker begins a job, at most CACHE_TTL_S old."""
    return frozenset(value(ConfigKey.QUEUES_PAUSED))


def read_paused_queues() -> frozenset[str]:
    """Returns the queues on which no worker begins a job, as the database has them now."""
    return frozenset(_read().get(ConfigKey.QUEUES_PAUSED, ()))


def clear_cache() -> None:
    """Clears the cache: the next value is read from the database."""
    global _cached_at
    _cached_at = float("-inf")


def all_settings() -> list[Setting]:
    """Returns all settings as they are in the database."""
    found = postgres.rows("SELECT key, value, updated_at, updated_by FROM admin.system_config")
    rows = {row["key"]: row for row in found}
    return [
        Setting(key, row["value"], description, row["updated_at"], row["updated_by"])
        if (row := rows.get(key))
        else Setting(key, default, description)
        for key, (default, description) in _DEFAULTS.items()
    ]


# JSON's null is a value, not a missing one.
UPDATE = """
    INSERT INTO admin.system_config (key, value, updated_by)
    SELECT key, value, %s FROM unnest(%s::text[], %s::jsonb[]) AS new (key, value) ORDER BY key
    ON CONFLICT (key) DO UPDATE
        SET value = excluded.value, updated_by = excluded.updated_by, updated_at = clock_timestamp()
"""


def update(values: Mapping[ConfigKey, Any], by: UUID) -> None:
    """Writes these values, in the open transaction, as changes of the user `by`."""
    postgres.rows(UPDATE, by, list(values), [postgres.Json(value) for value in values.values()])


def lock_table() -> None:
    """Locks the settings against other changes, so that the audit entry has the right previous values."""
    postgres.rows("LOCK TABLE admin.system_config IN SHARE ROW EXCLUSIVE MODE")
