"""GET /console/history: every change of status of the payments that the caller may see."""

from api.console.day_fields import as_moments
from api.console.visits import Resource, Visit, page


class History(Resource):
    """GET /console/history."""

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("paymentId", "from", "to", "cursor")
        history, error = visit.search("/payments/history", as_moments(query))
        visit.show("history.html", history=history, query=query, error=error)
