"""The page of one payment, for each role."""

import re

import pytest

from db.users import Role
from tests.api.console.browsers import Browser, sign_in
from tests.api.console.payments import ask, pay, shown
from tests.makers import Visitor, visitor, work


@pytest.fixture
def admin(client) -> Visitor:
    return visitor(client, Role.ADMIN)


def test_a_customer_watches_a_payment(browser, customer):
    id = pay(customer)
    sign_in(browser, customer)
    page = shown(browser, f"/console/payments/{id}")
    assert "The payment is pending. The path taken: create, to pending." in page
    assert "Something is still to come" in page
    assert f'data-events="{id}"' in page
    work()
    page = shown(browser, f"/console/payments/{id}")
    assert "create, to pending; begin, to processing; complete, to completed" in page
    assert "Audit log" not in page
    assert "actors/" not in page


def test_an_administrator_sees_what_makes_each_transition_and_all_records(browser, customer, admin):
    id = pay(customer, metadata={"simulate": "decline:expired_card"})
    work()
    sign_in(browser, admin)
    page = shown(browser, f"/console/payments/{id}")
    assert "actors/payment_jobs.py: begin" in page
    for heading in ("PSP calls", "Events", "Audit log"):
        assert f"<h2>{heading}</h2>" in page
    assert "payments.payment.fail" in page
    assert "expired card" in page


def test_the_timeline_is_filtered_by_kind(browser, customer, admin):
    id = pay(customer)
    work()
    sign_in(browser, admin)
    page = shown(browser, f"/console/payments/{id}?kind=pspCall")
    [timeline] = re.findall(r'<ol class="timeline">(.*?)</ol>', page, re.DOTALL)
    assert "The PSP charged the payment" in timeline
    assert "The payment began" not in timeline


def test_each_query_can_be_copied(browser, customer, admin):
    id = pay(customer)
    sign_in(browser, admin)
    page = shown(browser, f"/console/payments/{id}")
    for path in (
        f"/api/payments/{id}",
        f"/api/payments/{id}/timeline",
        f"/api/payments/{id}/attempts?limit=100",
    ):
        assert f"<code>GET {path}</code>" in page


def test_the_buttons_are_the_allowed_actions(browser, client, customer, vendor, admin):
    request = ask(vendor)
    ours = {"update", "cancel"}
    for caller, actions in ((customer, {"pay"}), (vendor, ours), (admin, ours | {"fail"})):
        own = Browser(client)
        sign_in(own, caller)
        page = shown(own, f"/console/payments/{request}")
        assert set(re.findall(r'name="action" value="(\w+)"', page)) == actions


def test_a_customer_pays_a_request_once_however_often_the_form_is_sent(browser, customer, vendor):
    request = ask(vendor)
    sign_in(browser, customer)
    form = {"action": "pay", "amount": "80.00", "currency": "USD", "version": "2"}
    first, again = (browser.post(f"/console/payments/{request}", form) for _ in range(2))
    assert first.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    work()
    assert "to completed" in shown(browser, first.headers["location"])


def test_a_vendor_describes_and_cancels_a_request(browser, vendor):
    request = ask(vendor)
    sign_in(browser, vendor)
    path = f"/console/payments/{request}"
    form = {"action": "update", "description": "Two chairs", "version": '"2"'}
    assert browser.post(path, form).status_code == 303
    assert "Two chairs" in shown(browser, path)
    stale = browser.post(path, {**form, "description": "Three"})
    assert (stale.status_code, "Three" in stale.text) == (412, True)
    assert browser.post(path, {"action": "cancel", "reason": "Sold", "version": "3"}).status_code == 303
    work()
    page = shown(browser, path)
    assert "to cancelled" in page
    assert "Sold" in page


def test_a_refused_action_says_why(browser, customer, admin):
    id = pay(customer)
    work()
    sign_in(browser, admin)
    result = browser.post(f"/console/payments/{id}", {"action": "fail", "version": "3"})
    assert result.status_code == 409
    assert "A completed payment cannot be failed." in result.text


def test_a_payment_of_another_customer_is_not_shown(browser, client, customer):
    id = pay(customer)
    sign_in(browser, visitor(client))
    assert browser.get(f"/console/payments/{id}").status_code == 404


def test_a_request_that_one_may_only_pay_shows_no_timeline(browser, customer, vendor):
    request = ask(vendor)
    sign_in(browser, customer)
    assert "Only who made this request" in shown(browser, f"/console/payments/{request}")
