"""The pages of a customer who pays, of a vendor who asks for it."""

import re
from typing import Any
from uuid import uuid4

import pytest
from falcon.testing import TestClient

from api.app import create_app
from db.users import Role, User
from tests import makers
from tests.api.console.browsers import Browser, signed_in
from tests.makers import visitor


def hidden(page, name: str) -> str:
    """The value of a hidden field."""
    [value] = re.findall(rf'name="{name}" value="([^"]*)"', page.text)
    return value.replace("&#34;", '"')


def payments_of(who) -> list[dict[str, Any]]:
    return who.get("/payments").json["data"]["items"]


def test_a_payment_leads_to_its_page(client):
    browser, customer = signed_in(client)
    page = browser.get("/console/pay")
    form = {
        "key": hidden(page, "key"),
        "amount": "12.50",
        "currency": "EUR",
        "simulate": "decline:expired_card",
    }
    result = browser.post("/console/pay", form)
    [payment] = payments_of(customer)
    assert (result.status_code, result.headers["location"]) == (303, f"/console/payments/{payment['id']}")
    assert (payment["amount"], payment["metadata"]) == ("12.50", {"simulate": "decline:expired_card"})


def test_a_form_that_is_sent_twice_pays_once(client):
    browser, customer = signed_in(client)
    form = {"key": str(uuid4()), "amount": "12.50", "currency": "EUR"}
    first, second = (browser.post("/console/pay", form).headers["location"] for _ in range(2))
    assert first == second
    assert len(payments_of(customer)) == 1


def test_what_is_refused_is_shown_again_beside_its_field(client):
    browser, customer = signed_in(client)
    result = browser.post("/console/pay", {"amount": "12.345", "currency": "EUR", "description": "Lunch"})
    assert result.status_code == 400
    assert 'id="amount-fault"' in result.text
    assert 'value="Lunch"' in result.text
    assert payments_of(customer) == []


def test_a_vendor_cannot_pay(client):
    browser, _ = signed_in(client, Role.VENDOR)
    assert browser.post("/console/pay", {"amount": "1", "currency": "EUR"}).status_code == 403


def test_in_production_no_outcome_can_be_chosen(client, settings, monkeypatch):
    browser, _ = signed_in(client)
    assert "simulate" in browser.get("/console/pay").text
    production = Browser(TestClient(create_app(settings.model_copy(update={"app_env": "production"}))))
    production.cookies = browser.cookies
    assert "simulate" not in production.get("/console/pay").text


def test_a_request_is_paid_as_it_was_seen(client):
    browser, customer = signed_in(client)
    request = makers.open_request()
    page = browser.get(f"/console/pay/{request.id}")
    form = {name: hidden(page, name) for name in ("key", "version", "amount", "currency")}
    assert form["amount"] == "80.00"
    result = browser.post(f"/console/pay/{request.id}", form)
    assert result.status_code == 303
    assert payments_of(customer)[0]["requestId"] == str(request.id)


def test_a_request_that_changed_meanwhile_is_shown_anew_instead_of_paid(client):
    vendor = visitor(client, Role.VENDOR)
    browser, customer = signed_in(client)
    request = makers.open_request(User.get_by_id(vendor.user["id"]))
    page = browser.get(f"/console/pay/{request.id}")
    form = {name: hidden(page, name) for name in ("key", "version", "amount", "currency")}
    vendor.send("PUT", f"/payments/{request.id}", {"amount": "95.00"})
    result = browser.post(f"/console/pay/{request.id}", form)
    assert result.status_code == 412
    assert "Nothing was paid" in result.text
    assert "Pay 95.00 USD" in result.text
    assert payments_of(customer) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [("completed", "is paid"), ("processing", "is being paid now"), ("cancelled", "can no longer be paid")],
)
def test_a_request_that_cannot_be_paid_says_why(client, status, said):
    browser, _ = signed_in(client)
    request = makers.open_request()
    with makers.triggers_disabled():
        makers.set_status(request, status)
    page = browser.get(f"/console/pay/{request.id}")
    assert said in page.text
    assert f"Pay {request.amount}" not in page.text


def test_a_request_of_nobody_is_not_found(client):
    browser, _ = signed_in(client)
    assert browser.get(f"/console/pay/{uuid4()}").status_code == 404


def test_a_request_of_a_vendor_has_a_link_for_its_customer(client):
    browser, vendor = signed_in(client, Role.VENDOR)
    form = {"amount": "80", "currency": "EUR", "description": "Two chairs", "customerEmail": "jo@example.com"}
    location = browser.post("/console/requests/new", form).headers["location"]
    [request] = payments_of(vendor)
    assert location == f"/console/requests/{request['id']}"
    assert (request["amount"], request["customerEmail"]) == ("80.00", "jo@example.com")
    page = browser.get(location).text
    assert f"/console/pay/{request['id']}" in page
    assert "Two chairs" in browser.get("/console/requests").text
    assert "Two chairs" not in browser.get("/console/requests?status=completed").text


def test_behind_a_proxy_the_link_of_a_request_leads_to_the_public_address(make_client, database):
    browser, _ = signed_in(make_client(PUBLIC_URL="https://pay.bank.example"), Role.VENDOR)
    page = browser.get(browser.post("/console/requests/new", {"amount": "80"}).headers["location"]).text
    assert "https://pay.bank.example/console/pay/" in page


def test_a_request_is_changed_but_not_if_it_changed_meanwhile(client):
    browser, vendor = signed_in(client, Role.VENDOR)
    request = makers.open_request(User.get_by_id(vendor.user["id"]))
    form = {"version": hidden(browser.get(f"/console/requests/{request.id}"), "version")}
    form |= {"amount": "95.00", "currency": "USD", "description": "Three chairs"}
    path = f"/console/requests/{request.id}"
    assert browser.post(path, form).status_code == 303
    assert browser.post(path, form | {"amount": "1.00"}).status_code == 412
    [changed] = payments_of(vendor)
    assert (changed["amount"], changed["description"]) == ("95.00", "Three chairs")


def test_a_request_is_cancelled(client):
    browser, vendor = signed_in(client, Role.VENDOR)
    request = makers.open_request(User.get_by_id(vendor.user["id"]))
    assert browser.post(f"/console/requests/{request.id}", {"cancel": "yes"}).status_code == 303
    makers.work()
    page = browser.get(f"/console/requests/{request.id}").text
    assert "Cancelled" in page
    assert "Cancel the request" not in page


def test_a_customer_does_not_see_the_page_of_a_request(client):
    browser, _ = signed_in(client)
    request = makers.open_request()
    result = browser.post(f"/console/requests/{request.id}", {"cancel": "yes"})
    assert result.status_code == 403
