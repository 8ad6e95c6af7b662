"""A customer pays, and watches the payment move to its end without loading the page again."""

import pytest

from tests.browser.driver import expect
from tests.browser.forms import send, watched


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        ("slow", "completed", "completed"),
        ("decline:insufficient_funds", "failed", "insufficient funds"),
        ("timeout", "completed", "completed"),
    ],
)
def test_a_payment_is_watched_to_its_end(visitor, signed_in, outcome, status, said):
    page = visitor(storage_state=signed_in("CUSTOMER")).open("/console/pay")
    page.get_by_label("Currency").select_option("EUR")
    page.get_by_label("Outcome to simulate").select_option(outcome)
    send(page, "Pay", amount="12.5", description="Lunch")
    expect(page.get_by_role("heading", name="Payment of 12.50 EUR")).to_be_visible()
    with watched(page):
        expect(page.locator("#head .badge")).to_have_text(status)
        expect(page.locator("#content")).to_contain_text(said)


def test_a_button_that_is_pressed_twice_pays_once(visitor, signed_in):
    page = visitor(storage_state=signed_in("CUSTOMER")).open("/console/pay")
    page.get_by_label("Amount").fill("3")
    page.get_by_label("Description").fill("Pressed twice")
    page.get_by_role("button", name="Pay", exact=True).dblclick()
    expect(page.get_by_role("heading", name="Payment of 3.00 USD")).to_be_visible()
    page.goto("/console")
    expect(page.locator("#payments").get_by_text("Pressed twice")).to_have_count(1)
