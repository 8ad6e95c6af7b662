"""Limits per customer that an operator sets."""

from datetime import timedelta

import pytest

from actors import payable
from db import config, payments, users
from db.core import times
from db.payments import Payment
from db.users import User
from tests import makers
from tests.makers import Visitor, error, visitor, work


def limit(admin: Visitor, **values: object) -> None:
    body = {f"payments.{name}": value for name, value in values.items()}
    assert admin.send("PUT", "/admin/config", body).status_code == 200
    config.clear_cache()


def pay(caller: Visitor, amount: object = "10.00", **more: object):
    return caller.post("/payments", {"type": "payment", "amount": amount, **more})


def pay_request(caller: Visitor, request: Payment, **headers: str):
    return caller.post("/payments", {"type": "payment", "requestId": str(request.id)}, headers=headers)


def test_the_daily_limit_counts_payments_of_24_hours(client, customer, admin):
    limit(admin, dailyLimit=2)
    request = makers.open_request()
    assert [pay(customer).status_code, pay(customer).status_code] == [201, 201]
    refused = pay(customer)
    assert error(refused) == (429, "RATE_LIMITED")
    after = int(refused.headers["Retry-After"])
    assert 86_000 < after <= 86_401
    assert refused.json["error"]["details"] == {"retryAfter": after}
    assert error(pay_request(customer, request)) == (429, "RATE_LIMITED")
    assert pay(visitor(client)).status_code == 201, "another's payments are another's"
    Payment.update(created_at=times.now() - timedelta(hours=24)).where(
        Payment.user_id == customer.user["id"]
    ).execute()
    assert pay_request(customer, request, **{"If-Match": '"2"'}).status_code == 201


def test_a_replay_is_not_limited(customer, admin):
    limit(admin, dailyLimit=1)
    key = {"Idempotency-Key": "order-1"}
    first = customer.post("/payments", {"type": "payment", "amount": 1}, headers=key)
    again = customer.post("/payments", {"type": "payment", "amount": 1}, headers=key)
    assert (first.status_code, again.content) == (201, first.content)


def test_an_unverified_customer_has_an_amount_limit_per_currency(client, customer, admin):
    limit(admin, unverifiedAmount="25.00")
    request = makers.open_request()
    assert pay(customer).status_code == 201
    assert pay(customer, metadata={"simulate": "decline"}).status_code == 201
    assert error(pay(customer, "5.01")) == (403, "FORBIDDEN"), "what is under way counts"
    work()
    # One completed, one failed: a failed one does not count.
    refused = pay(customer, "15.01")
    assert error(refused) == (403, "FORBIDDEN")
    assert refused.json["error"]["details"] == {"reason": "email_unverified"}
    assert "25.00 USD" in refused.json["error"]["message"]
    assert error(pay_request(customer, request)) == (403, "FORBIDDEN")
    assert makers.reload(request).status == "initiated"
    assert pay(customer, "25.00", currency="EUR").status_code == 201
    assert pay(customer, "15.00").status_code == 201
    User.update(email_verified=True).where(User.id == customer.user["id"]).execute()
    assert pay(customer, "9999.00").status_code == 201


def test_payment_requests_do_not_count_as_payments(vendor, admin):
    limit(admin, dailyLimit=1, unverifiedAmount="1.00")
    for _ in range(3):
        assert vendor.post("/payments", {"type": "initiate", "amount": 100}).status_code == 201


def test_disabled_limits_run_no_queries(customer, admin, monkeypatch):
    limit(admin, dailyLimit=1, unverifiedAmount="1.00")
    limit(admin, dailyLimit=None, unverifiedAmount=None)

    def fail(*_args: object) -> None:
        raise AssertionError("a query ran for a limit that is off")

    monkeypatch.setattr(users, "locked", fail)
    monkeypatch.setattr(payments, "nth_newest_payment_at", fail)
    monkeypatch.setattr(payments, "recent_amount", fail)
    assert [pay(customer).status_code for _ in range(3)] == [201] * 3
    items = {item["key"]: item["value"] for item in admin.get("/admin/config").json["data"]["items"]}
    assert items["payments.dailyLimit"] is items["payments.unverifiedAmount"] is None


@pytest.mark.parametrize(("age", "taken"), [(timedelta(hours=23, minutes=59), False), (payable.WINDOW, True)])
def test_an_open_payment_always_counts_a_completed_one_for_a_day(customer, admin, age, taken):
    limit(admin, unverifiedAmount="10.00")
    paid = pay(customer).json["data"]["id"]
    Payment.update(created_at=times.now() - age).where(Payment.id == paid).execute()
    assert error(pay(customer)) == (403, "FORBIDDEN")
    work()
    Payment.update(created_at=times.now() - age).where(Payment.id == paid).execute()
    assert (pay(customer).status_code == 201) is taken
