"""A vendor asks for money, a customer pays it from its link, and both see it happen."""

import pytest

from tests.browser.driver import expect
from tests.browser.forms import send, watched


@pytest.fixture
def vendor(visitor, signed_in):
    return visitor(storage_state=signed_in("VENDOR"))


@pytest.fixture
def customer(visitor, signed_in):
    return visitor(storage_state=signed_in("CUSTOMER"))


def made(vendor, description: str) -> str:
    """A request for 80 euros that the vendor has just made and watches; its link."""
    page = vendor.open("/console/requests/new")
    page.get_by_label("Currency").select_option("EUR")
    send(page, "Make the request", amount="80", description=description)
    expect(page.get_by_role("heading", name="Waits for its payment")).to_be_visible()
    return page.get_by_label("Its link").input_value()


def test_a_request_is_paid_from_its_link_before_the_vendors_eyes(vendor, customer):
    link = made(vendor, "Two chairs")
    page = customer.open(link)
    expect(page.get_by_text("80.00 EUR").first).to_be_visible()
    with watched(vendor.page):
        page.get_by_role("button", name="Pay 80.00 EUR").click()
        expect(vendor.page.get_by_role("heading", name="Paid")).to_be_visible()
        expect(vendor.page.locator("#payments .badge.completed")).to_be_visible()
    customer.open(link)
    expect(page.get_by_text("This request is paid.")).to_be_visible()


def test_a_request_that_was_changed_is_not_paid_unseen(vendor, customer):
    link = made(vendor, "An oak table")
    page = customer.open(link)
    send(vendor.page, "Save", amount="95")
    expect(vendor.page.get_by_text("The request is changed.")).to_be_visible()
    page.get_by_role("button", name="Pay 80.00 EUR").click()
    expect(page.get_by_text("Nothing was paid.")).to_be_visible()
    customer.expect_fault("status of 412")
    page.get_by_role("button", name="Pay 95.00 EUR").click()
    expect(vendor.page.get_by_role("heading", name="Paid")).to_be_visible()


def test_a_request_that_is_cancelled_asks_the_vendor_first(vendor, customer):
    link = made(vendor, "A lamp")
    page = customer.open(link)
    cancel = vendor.page.get_by_role("button", name="Cancel the request")
    cancel.click()
    vendor.page.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    expect(vendor.page.get_by_role("dialog")).to_have_count(0)
    expect(vendor.page.get_by_role("heading", name="Waits for its payment")).to_be_visible()
    cancel.click()
    vendor.page.get_by_role("dialog").get_by_role("button", name="Cancel the request").click()
    expect(vendor.page.get_by_role("heading", name="Cancelled")).to_be_visible()
    # Nothing of the open page has to be loaded again.
    expect(page.get_by_text("This request can no longer be paid")).to_be_visible()


def test_an_amount_that_is_refused_is_said_beside_its_field(vendor):
    page = vendor.open("/console/requests/new")
    send(page, "Make the request", amount="12.345", description="Kept")
    expect(page.locator(".field", has=page.locator("#amount")).locator(".fault")).to_contain_text("Amount")
    expect(page.get_by_label("Description")).to_have_value("Kept")
    vendor.expect_fault("status of 400")
