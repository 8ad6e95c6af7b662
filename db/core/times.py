"""Times: timezone-aware UTC in code, ISO 8601 with milliseconds and `Z` in JSON."""

from datetime import UTC, datetime


def now() -> datetime:
    """Returns the present time of this process's clock, in UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """Returns a time in the form `2026-01-31T09:30:00.125Z`."""
    # Skips the conversion of times from the database, which are in UTC: each row of a list has two.
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    # In half the time of `isoformat`.
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (  # noqa: UP031
        utc.year,
        utc.month,
        utc.day,
        utc.hour,
        utc.minute,
        utc.second,
        utc.microsecond // 1000,
    )


def age_s(at: datetime | None, now: datetime) -> float:
    """Returns the seconds since a time, rounded to milliseconds; 0 if there is none."""
    return round((now - at).total_seconds(), 3) if at else 0.0
