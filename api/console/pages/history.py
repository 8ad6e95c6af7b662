"""GET /console/history: every change of status of the payments that the caller may see."""

from api.console.day_fields import day_after, day_start
from api.console.visits import Console, Visit, page


class History:
    """GET /console/history."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("paymentId", "from", "to", "cursor")
        asked = {**query, "from": day_start(query.get("from")), "to": day_after(query.get("to"))}
        history = visit.api.get("/payments/history", asked)
        visit.show("history.html", history=history, query=query)
