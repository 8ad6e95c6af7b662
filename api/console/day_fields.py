"""Days of a form as the API's moments. What is no day goes to the API as it is, which says what is wrong."""

from collections.abc import Mapping
from datetime import date, timedelta

# The last day is part of what is asked for: it ends when the next one begins (UTC).
_LATER = {"from": timedelta(0), "to": timedelta(days=1)}


def as_moments(query: Mapping[str, str]) -> dict[str, str]:
    """Returns the query with `from` and `to` as moments: `2026-03-01T00:00:00Z`."""
    return {name: _moment(value, _LATER[name]) if name in _LATER else value for name, value in query.items()}


def _moment(day: str, later: timedelta) -> str:
    try:
        return f"{date.fromisoformat(day) + later}T00:00:00Z"
    except (ValueError, OverflowError):
        return day
