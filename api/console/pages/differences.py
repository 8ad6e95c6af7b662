"""Differences of a day, for administrators: our payments beside the lines of the provider's statement."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from api.console.visits import Resource, Visit, page
from db.core import times

# What the provider says of a payment that has ended so.
_OUTCOMES = {"completed": "charged", "failed": "declined"}


class Differences(Resource):
    """GET /console/differences."""

    @page()
    def on_get(self, visit: Visit) -> None:
        query = visit.query("day")
        # The last day whose statement can be there.
        newest = times.now().date() - timedelta(days=1)
        asked = query.get("day", str(newest))
        found, error = visit.search("/payments/differences", {"day": asked})
        day = date.fromisoformat(found["day"]) if found else None
        visit.show(
            "differences.html",
            error=error,
            found=found,
            values={"day": asked},
            differing=[_differing(each) for each in found["items"]] if found else [],
            before=day and day > date.min and day - timedelta(days=1),
            after=day and day < newest and day + timedelta(days=1),
        )


def _differing(difference: dict[str, Any]) -> set[str]:
    """Which rows of the two sides are not alike: `outcome`, `amount`."""
    ours, lines = difference["payment"], difference["lines"]
    if ours is None or len(lines) != 1:
        return {"outcome"}
    [line] = lines
    same_outcome = _OUTCOMES.get(ours["status"]) == line["outcome"]
    # The provider may leave out decimals.
    same_amount = (Decimal(line["amount"]), line["currency"]) == (Decimal(ours["amount"]), ours["currency"])
    return {name for name, same in (("outcome", same_outcome), ("amount", same_amount)) if not same}
