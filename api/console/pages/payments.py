"""The list of payments and requests, with its filters."""

from typing import Any

from api.console.client import ApiError
from api.console.day_fields import day_after, day_start
from api.console.visits import Console, Visit, page

STATUSES = ("pending", "initiated", "processing", "completed", "failed", "cancelled")
_FILTERS = ("status", "type", "currency", "from", "to", "requestId", "needsReview", "cursor")


class Payments:
    """GET /console/payments."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query(*_FILTERS)
        asked: dict[str, Any] = {
            **query,
            "from": day_start(query.get("from")),
            "to": day_after(query.get("to")),
        }
        try:
            payments, error = visit.api.get("/payments", asked), None
        except ApiError as refusal:
            if refusal.status != 400:
                raise
            payments, error = None, refusal
        status = error.status if error else 200
        visit.show(
            "payments.html",
            status,
            payments=payments,
            query=query,
            error=error,
            statuses=[(status, status.capitalize()) for status in STATUSES],
        )
