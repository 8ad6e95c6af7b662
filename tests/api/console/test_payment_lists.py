"""The list of payments with its filters, and the report."""

import re

import pytest

from db.users import Role
from tests import makers
from tests.api.console.browsers import Browser, sign_in
from tests.api.console.payments import ask, pay, shown
from tests.makers import Visitor, visitor, work


@pytest.fixture
def admin(client) -> Visitor:
    return visitor(client, Role.ADMIN)


def test_the_list_is_filtered_and_paged(browser, customer):
    ids = [pay(customer) for _ in range(21)]
    work()
    late = pay(customer)
    sign_in(browser, customer)
    page = shown(browser, "/console/payments?status=completed")
    assert late not in page
    assert sum(id in page for id in ids) == 20
    [older] = re.findall(r'rel="next" href="([^"]+)"', page)
    page = shown(browser, older.replace("&amp;", "&"))
    assert ids[0] in page


def test_a_wrong_filter_is_explained(browser, customer):
    sign_in(browser, customer)
    result = browser.get("/console/payments?requestId=7&from=2026-02-30")
    assert result.status_code == 400
    assert "must be" in result.text
    assert 'value="7"' in result.text


def test_only_administrators_filter_by_review(browser, client, customer, admin):
    sign_in(browser, customer)
    assert "needsReview" not in shown(browser, "/console/payments")
    own = Browser(client)
    sign_in(own, admin)
    assert 'name="needsReview"' in shown(own, "/console/payments")


@pytest.mark.parametrize("role", [Role.VENDOR, Role.ADMIN])
def test_a_report_has_a_plot_a_table_and_a_file(browser, client, role):
    caller = visitor(client, role)
    vendor = caller if role is Role.VENDOR else visitor(client, Role.VENDOR)
    pay(visitor(client), requestId=ask(vendor))
    work()
    sign_in(browser, caller)
    page = shown(browser, "/console/reports")
    assert "<svg" in page
    assert "80.00" in page
    file = browser.get("/console/reports?format=csv")
    assert file.headers["content-type"].startswith("text/csv")
    assert file.text.splitlines()[0] == "period,currency,status,count,amount"


def test_a_report_draws_the_ten_currencies_with_the_most_payments(browser, admin, customer):
    currencies = ["AUD", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "HUF", "NOK", "PLN", "SEK"]
    for currency in [*currencies, "SEK"]:
        pay(customer, currency=currency)
    sign_in(browser, admin)
    page = shown(browser, "/console/reports")
    assert page.count("<figure>") == 10
    assert all(f"<h2>{currency}</h2>" in page for currency in currencies)
    assert "Payments in SEK by day and status" in page


def test_customers_have_no_reports(browser, customer):
    sign_in(browser, customer)
    assert browser.get("/console/reports").status_code == 403


def test_a_wrong_period_is_explained(browser, vendor):
    sign_in(browser, vendor)
    result = browser.get("/console/reports?from=2026-03-02&to=2026-03-01")
    assert result.status_code == 400
    assert "must be later" in result.text


def test_no_payment_is_shown_as_such(browser, vendor):
    sign_in(browser, vendor)
    assert "No payment was made in this time." in shown(browser, "/console/reports")
    makers.work()
