"""Days of a form as the API's moments. What is no day goes to the API as it is, which says what is wrong."""

from datetime import date, timedelta


def day_start(day: str | None) -> str | None:
    """Returns the beginning of a day (UTC): `2026-03-01T00:00:00Z`."""
    return _moment(day, timedelta(0))


def day_after(day: str | None) -> str | None:
    """Returns the end of a day (UTC), which is the beginning of the next one."""
    return _moment(day, timedelta(days=1))


def _moment(day: str | None, later: timedelta) -> str | None:
    try:
        return f"{date.fromisoformat(day) + later}T00:00:00Z" if day else None
    except (ValueError, OverflowError):
        return day
