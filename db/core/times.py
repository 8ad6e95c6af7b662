"""Moments: aware UTC inside, ISO 8601 with milliseconds and `Z` on the wire."""

from datetime import UTC, datetime


def now() -> datetime:
    """This moment by this process's clock, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """`2026-01-31T09:30:00.125Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age_s(at: datetime | None, now: datetime) -> float:
    """How many seconds ago that was, 0 where it was never."""
    return round((now - at).total_seconds(), 3) if at else 0.0
