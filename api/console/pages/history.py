"""GET /console/history: every change of status of the payments that the caller may see."""

from datetime import date, timedelta

from api.console.visits import Console, Visit, page


class History:
    """GET /console/history."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("paymentId", "from", "to", "cursor")
        asked = query | {name: _midnight(query[name], days=days) for name, days in _DAYS if name in query}
        history = visit.api.get("/payments/history", asked)
        visit.show("history.html", history=history, query=query)


# The last day belongs to what is shown.
_DAYS = (("from", 0), ("to", 1))


def _midnight(day: str, *, days: int) -> str:
    """Returns the start of a day as a timestamp of the API, which refuses what is no day."""
    try:
        return f"{date.fromisoformat(day) + timedelta(days=days)}T00:00:00Z"
    except (ValueError, OverflowError):
        return day
