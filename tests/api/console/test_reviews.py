"""An administrator settles what the payment provider left open."""

import re
from datetime import UTC, datetime
from decimal import Decimal

from api.console.pages.reviews import NO_RESULT
from db import statements
from db.reviews import MONEY_CAUSES, ReviewCause
from tests import makers
from tests.makers import work

DAY = "2026-03-01"


def test_a_review_is_resolved_with_a_reason(admin):
    payment = makers.payment(simulate="blackout")
    work()
    assert f"/console/reviews/{payment.id}" in admin.get("/console/reviews").text
    path = f"/console/reviews/{payment.id}"
    page = admin.get(path).text
    assert "the PSP does not answer" in page
    # The provider has reported no result that the payment could be ended with.
    assert 'name="outcome"' not in page
    reviews = re.findall(r'name="reviews" value="([^"]+)"', page)[0]
    refused = admin.post(path, {"reviews": reviews})
    assert refused.status_code == 400
    assert admin.post(path, {"reviews": reviews, "reason": "They answered by phone."}).status_code == 303
    assert makers.review(payment) is None
    assert "They answered by phone." in admin.get(path).text
    again = admin.post(path, {"reviews": reviews, "reason": "Again."})
    assert again.status_code == 409


def test_causes_without_a_result_are_those_that_the_api_knows():
    assert set(NO_RESULT) == set(ReviewCause) - MONEY_CAUSES


def test_differences_of_a_day_are_side_by_side(admin):
    completed, failed = makers.payment(), makers.payment(simulate="decline")
    work()
    booked = {
        "day": DAY,
        "currency": "USD",
        "outcome": "charged",
        "booked_at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    lines = [(completed.id, "12.51"), (failed.id, "12.5"), ("other", "1")]
    statements.add_lines(
        [{"id": str(id), "reference": str(id), "amount": Decimal(amount), **booked} for id, amount in lines]
    )
    statements.mark_matched(datetime.fromisoformat(DAY).date(), 3)
    page = admin.get(f"/console/differences?day={DAY}").text
    assert "charged 12.51 USD, but the payment is over 12.50 USD" in page
    assert "there is no such payment" in page
    # The amount of the first, the outcome of the second and of the third.
    assert page.count('class="differs"') == 3
    assert "12.51" in page


def test_a_day_that_is_none_is_refused_beside_its_field(admin):
    refused = admin.get("/console/differences?day=soon")
    assert refused.status_code == 400
    assert 'aria-invalid="true"' in refused.text
