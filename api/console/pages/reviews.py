"""What a person decides: open reviews of payments, and differences from the statements of the provider."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from api.console.client import ApiError
from api.console.visits import Visit
from db.core import times

# Payments on one page of the list: each costs a call for its reviews.
_PAYMENTS = 10
# The causes of reviews without a result from the provider. Only a payment for which the provider has reported
# a result can be ended by hand.
NO_RESULT = ("psp_silent", "request_moved")
# How a `processing` payment can be ended with its review.
_OUTCOMES = (("", "stays as it is"), ("completed", "is completed"), ("failed", "has failed"))
# The provider's outcome for each status in which our payment can have ended.
_PROVIDER_OUTCOME = {"completed": "charged", "failed": "declined"}


def show_list(visit: Visit) -> None:
    """GET /console/reviews."""
    query = visit.query("cursor")
    payments = visit.api.get("/payments", {"needsReview": "true", "limit": _PAYMENTS, **query})
    attempts = {
        payment["id"]: visit.api.get(f"/payments/{payment['id']}/attempts", {"limit": 1})
        for payment in payments["items"]
    }
    visit.show("reviews.html", payments=payments, attempts=attempts, query=query)


def show(visit: Visit, payment_id: UUID, *, error: ApiError | None = None) -> None:
    """GET /console/reviews/{payment_id}."""
    attempts = visit.api.get(f"/payments/{payment_id}/attempts", {"limit": 50})
    payment = visit.api.get(f"/payments/{payment_id}")
    unresolved = [review for review in attempts["reviews"] if review["resolvedAt"] is None]
    is_reported = any(review["cause"] not in NO_RESULT for review in unresolved)
    visit.show(
        "review.html",
        error=error,
        payment=payment,
        attempts=attempts,
        open=unresolved,
        resolved=[review for review in attempts["reviews"] if review["resolvedAt"] is not None],
        outcomes=_OUTCOMES if payment["status"] == "processing" and is_reported else (),
        values=visit.form,
    )


def resolve(visit: Visit, payment_id: UUID) -> None:
    """POST /console/reviews/{payment_id}."""
    body: dict[str, Any] = {
        **visit.texts("reason"),
        **visit.fields("outcome"),
        # The reviews that were shown: one that was opened meanwhile stays open.
        "reviewIds": visit.form.get("reviews", "").split(),
    }
    visit.api.post(f"/payments/{payment_id}/review", body)
    visit.go("/console/reviews", "The review is resolved.")


def show_differences(visit: Visit) -> None:
    """GET /console/differences: our payments of a day beside the lines of the provider's statement."""
    # The last day whose statement can be there.
    newest = times.now().date() - timedelta(days=1)
    requested = visit.query("day").get("day", str(newest))
    found, error = visit.search("/payments/differences", {"day": requested})
    day = date.fromisoformat(found["day"]) if found else None
    visit.show(
        "differences.html",
        error=error,
        found=found,
        values={"day": requested},
        differing=[_differing(each) for each in found["items"]] if found else [],
        before=day and day > date.min and day - timedelta(days=1),
        after=day and day < newest and day + timedelta(days=1),
    )


def _differing(difference: dict[str, Any]) -> set[str]:
    """Returns which of `outcome` and `amount` differ between our side and the provider's."""
    ours, lines = difference["payment"], difference["lines"]
    if ours is None or len(lines) != 1:
        return {"outcome"}
    [line] = lines
    same_outcome = _PROVIDER_OUTCOME.get(ours["status"]) == line["outcome"]
    # The provider may leave out decimals.
    same_amount = (Decimal(line["amount"]), line["currency"]) == (Decimal(ours["amount"]), ours["currency"])
    return {name for name, same in (("outcome", same_outcome), ("amount", same_amount)) if not same}
