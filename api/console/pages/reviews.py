"""Reviews for administrators: the payments that a person has to settle."""

from typing import Any
from uuid import UUID

from api.console.client import ApiError
from api.console.visits import Resource, Visit, page

# Each payment costs a call for its reviews.
_PAYMENTS = 10
# How a payment can be ended with its review, where it is `processing`.
_OUTCOMES = (("", "stays as it is"), ("completed", "is completed"), ("failed", "has failed"))


class Reviews(Resource):
    """GET /console/reviews."""

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("cursor")
        payments = visit.api.get("/payments", {"needsReview": "true", "limit": _PAYMENTS, **query})
        found = {
            payment["id"]: visit.api.get(f"/payments/{payment['id']}/attempts", {"limit": 1})
            for payment in payments["items"]
        }
        visit.show("reviews.html", payments=payments, attempts=found, query=query)


class OneReview(Resource):
    """GET, POST /console/reviews/:id. The id is the payment's."""

    @page()
    def on_get(self, visit: Visit, payment_id: UUID) -> None:
        _show(visit, payment_id)

    @page()
    def on_post(self, visit: Visit, payment_id: UUID) -> None:
        form = visit.form
        # The reviews that were shown: one that was opened meanwhile stays open.
        body: dict[str, Any] = {
            "reason": form.get("reason", ""),
            "reviewIds": form.get("reviews", "").split(),
        }
        if "outcome" in form:
            body["outcome"] = form["outcome"]
        try:
            visit.api.post(f"/payments/{payment_id}/review", body)
        except ApiError as error:
            _show(visit, payment_id, error)
        else:
            visit.go("/console/reviews", "The review is resolved.")


def _show(visit: Visit, payment_id: UUID, error: ApiError | None = None) -> None:
    attempts = visit.api.get(f"/payments/{payment_id}/attempts", {"limit": 50})
    visit.show(
        "review.html",
        error=error,
        payment=visit.api.get(f"/payments/{payment_id}"),
        attempts=attempts,
        open=[review for review in attempts["reviews"] if review["resolvedAt"] is None],
        resolved=[review for review in attempts["reviews"] if review["resolvedAt"] is not None],
        outcomes=_OUTCOMES,
        values=visit.form if error else {},
    )
