"""A payment request with a `customerEmail` belongs to the customer with that verified address."""

from uuid import UUID

import pytest

from actors import request_addressees
from db import payments, postgres
from tests import makers
from tests.makers import Visitor, error, registered, verify_email, work


def ask(vendor: Visitor, email: str) -> str:
    body = {"type": "initiate", "amount": "80.00", "description": "Two chairs", "customerEmail": email}
    id = vendor.post("/payments", body).json["data"]["id"]
    work()
    return str(id)


def pay(caller: Visitor, request: str):
    return caller.post("/payments", {"type": "payment", "requestId": request})


def rename(admin: Visitor, caller: Visitor, email: str, *, proved: bool = False) -> None:
    body = {"email": email, "emailVerified": proved}
    assert admin.send("PUT", f"/admin/users/{caller.user['id']}", body).status_code == 200
    work()


def belongs_to(caller: Visitor, request: str) -> bool:
    """Whether the caller sees the request; all routes must agree."""
    shown = caller.get(f"/payments/{request}")
    seen = {
        shown.status_code == 200 and "pay" in shown.json["data"]["allowedActions"],
        request in {item["id"] for item in caller.get("/payments").json["data"]["items"]},
        request in {item["paymentId"] for item in caller.get("/payments/history").json["data"]["items"]},
    }
    assert len(seen) == 1, shown.text
    return seen.pop()


def test_a_customer_with_an_unverified_address_cannot_see_or_pay_requests_to_it(client, vendor):
    email = makers.address()
    before = ask(vendor, email.upper())
    squatter = registered(client, email=email)
    for request in (before, ask(vendor, email)):
        assert not belongs_to(squatter, request)
        assert error(pay(squatter, request)) == (404, "NOT_FOUND")


def test_verifying_an_address_reveals_the_requests_to_it(client, vendor):
    customer = registered(client)
    email = customer.user["email"]
    work()
    before = ask(vendor, email.upper())
    shown = vendor.get(f"/payments/{before}")
    link = f"/api/auth/verify-email?token={makers.mailbox.token()}"
    assert client.simulate_get(link).status_code == 200
    # Before any job has run.
    assert belongs_to(customer, before)
    assert vendor.get(f"/payments/{before}").headers["ETag"] == shown.headers["ETag"]
    work()
    after = ask(vendor, email)
    assert belongs_to(customer, after)
    assert pay(customer, before).status_code == pay(customer, after).status_code == 201


@pytest.mark.parametrize("how", ["opened", "verified", "moved"])
def test_an_address_verified_by_an_administrator_reveals_the_requests_to_it(client, vendor, admin, how):
    email = makers.address()
    request = ask(vendor, email)
    if how == "opened":
        body = {"email": email, "name": "Some One", "password": makers.PASSWORD, "emailVerified": True}
        assert admin.post("/admin/users", body).status_code == 201
        signed_in = client.simulate_post(
            "/api/auth/login", json={"email": email, "password": makers.PASSWORD}
        )
        customer = Visitor(client, signed_in.json["data"]["accessToken"])
    else:
        customer = registered(client, email=email if how == "verified" else None)
        assert not belongs_to(customer, request)
        rename(admin, customer, email, proved=True)
    assert belongs_to(customer, request)


def test_a_request_follows_its_customer_when_the_address_changes(client, vendor, admin):
    customer = registered(client)
    old, new = customer.user["email"], makers.address()
    verify_email(customer)
    open_request, paid = ask(vendor, old), ask(vendor, old)
    assert pay(customer, paid).status_code == 201
    work()

    rename(admin, customer, new)
    next_owner = registered(client, email=old)
    verify_email(next_owner)

    for request in (open_request, paid):
        assert next_owner.get(f"/payments/{request}").status_code == 404
        assert customer.get(f"/payments/{request}").status_code == 200
        # The vendor still sees the address that they entered.
        assert vendor.get(f"/payments/{request}").json["data"]["customerEmail"] == old
    assert next_owner.get("/payments").json["data"]["items"] == []
    assert next_owner.get("/payments/history").json["data"]["items"] == []
    assert error(pay(next_owner, open_request)) == (404, "NOT_FOUND")
    # New requests to the old address belong to its next owner.
    assert belongs_to(next_owner, ask(vendor, old))
    assert pay(customer, open_request).status_code == 201


def test_a_readdressed_request_moves_with_its_history(client, vendor):
    first, second, unproved = registered(client), registered(client), registered(client)
    verify_email(first)
    verify_email(second)
    request = ask(vendor, first.user["email"])
    for caller in (second, unproved):
        body = {"customerEmail": caller.user["email"]}
        assert vendor.send("PUT", f"/payments/{request}", body).status_code == 200
        found = [item for item in (first, second, unproved) if belongs_to(item, request)]
        assert found == ([second] if caller is second else [])
    verify_email(unproved)
    assert belongs_to(unproved, request)


def test_only_the_addressed_customer_can_pay(client, vendor, admin):
    customer = registered(client)
    verify_email(customer)
    request = ask(vendor, customer.user["email"])
    path = f"/admin/users/{customer.user['id']}/role"
    admin.send("PUT", path, {"role": "VENDOR"})
    assert customer.get(f"/payments/{request}").status_code == 404
    assert error(pay(customer, request)) == (403, "FORBIDDEN")
    admin.send("PUT", path, {"role": "CUSTOMER"})
    assert belongs_to(customer, request)


def test_many_requests_are_bound_in_batches(client, vendor, monkeypatch):
    monkeypatch.setattr(request_addressees, "BIND_AT_ONCE", 2)
    monkeypatch.setattr(request_addressees, "BIND_BATCH", 3)
    customer = registered(client)
    requests = [ask(vendor, customer.user["email"]) for _ in range(9)]

    def bound() -> int:
        mine = payments.Payment.addressee_id == UUID(customer.user["id"])
        return int(payments.Payment.select().where(mine).count())

    link = f"/api/auth/verify-email?token={makers.mailbox.token()}"
    assert client.simulate_get(link).status_code == 200
    assert bound() == 2
    assert set(work()) == {"payments.bind_addressee"}
    assert bound() == len(requests)


def test_a_page_of_addressed_requests_reads_only_its_rows(client, vendor):
    postgres.set_statement_timeout(60)
    customer = registered(client)
    verify_email(customer)
    request = payments.get(UUID(ask(vendor, customer.user["email"])))
    assert request is not None
    with makers.triggers_disabled():
        postgres.rows(
            "INSERT INTO payments.payments (user_id, payee_id, type, status, amount, customer_email,"
            " addressee_id, created_at) SELECT user_id, payee_id, type, status, amount, customer_email,"
            " addressee_id, created_at - n * interval '1 minute'"
            " FROM payments.payments, generate_series(1, 5000) AS n WHERE id = %s",
            request.id,
        )
    postgres.rows(
        "INSERT INTO payments.payment_transactions (payment_id, transaction_type, amount, currency, status,"
        " user_id, payee_id, addressee_id, created_at) SELECT id, 'begin', amount, currency, status, user_id,"
        " payee_id, addressee_id, created_at FROM payments.payments, generate_series(1, 3)"
    )
    postgres.rows("ANALYZE payments.payments, payments.payment_transactions")

    def rows_read() -> int:
        read = "SELECT sum(seq_tup_read + idx_tup_fetch) AS rows FROM pg_stat_xact_user_tables"
        return int(postgres.rows(f"{read} WHERE schemaname = 'payments'")[0]["rows"])

    page = customer.get("/payments/history?limit=100").json["data"]
    for path in ("/payments/history", f"/payments/history?cursor={page['pagination']['nextCursor']}"):
        before = rows_read()
        assert len(customer.get(path).json["data"]["items"]) == 20
        assert rows_read() - before < 200, path
