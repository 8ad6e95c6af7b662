"""The list of payments and requests with its filters, and the history of all that the caller may see."""

from api.console.visits import Resource, Visit, page

STATUSES = ("pending", "initiated", "processing", "completed", "failed", "cancelled")
_FILTERS = ("status", "type", "currency", "from", "to", "requestId", "needsReview", "cursor")


class Payments(Resource):
    """GET /console/payments."""

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query(*_FILTERS)
        payments, error = visit.search("/payments", query)
        visit.show(
            "payments.html",
            payments=payments,
            query=query,
            error=error,
            statuses=[(status, status.capitalize()) for status in STATUSES],
        )


class History(Resource):
    """GET /console/history: every change of status."""

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("paymentId", "from", "to", "cursor")
        history, error = visit.search("/payments/history", query)
        visit.show("history.html", history=history, query=query, error=error)
