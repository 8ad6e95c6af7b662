"""A request that names an address belongs to the customer who has proved it, and follows them."""

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


def pay(who: Visitor, request: str):
    return who.post("/payments", {"type": "payment", "requestId": request})


def rename(boss: Visitor, who: Visitor, email: str, *, proved: bool = False) -> None:
    body = {"email": email, "emailVerified": proved}
    assert boss.send("PUT", f"/admin/users/{who.user['id']}", body).status_code == 200
    work()


def belongs_to(who: Visitor, request: str) -> bool:
    """Whether they see it, which all routes say alike."""
    shown = who.get(f"/payments/{request}")
    seen = {
        shown.status_code == 200 and "pay" in shown.json["data"]["allowedActions"],
        request in {it["id"] for it in who.get("/payments").json["data"]["items"]},
        request in {it["paymentId"] for it in who.get("/payments/history").json["data"]["items"]},
    }
    assert len(seen) == 1, shown.text
    return seen.pop()


def test_who_signs_up_with_an_address_and_has_not_proved_it_sees_and_pays_nothing(client, vendor):
    email = makers.address()
    before = ask(vendor, email.upper())
    squatter = registered(client, email=email)
    for request in (before, ask(vendor, email)):
        assert not belongs_to(squatter, request)
        assert error(pay(squatter, request)) == (404, "NOT_FOUND")


def test_proving_an_address_brings_what_is_addressed_to_it(client, vendor):
    customer = registered(client)
    email = customer.user["email"]
    work()
    before = ask(vendor, email.upper())
    shown = vendor.get(f"/payments/{before}")
    link = f"/api/auth/verify-email?token={makers.mailbox.token()}"
    assert client.simulate_get(link).status_code == 200
    # At once, before any job is done.
    assert belongs_to(customer, before)
    assert vendor.get(f"/payments/{before}").headers["ETag"] == shown.headers["ETag"]
    work()
    after = ask(vendor, email)
    assert belongs_to(customer, after)
    assert pay(customer, before).status_code == pay(customer, after).status_code == 201


@pytest.mark.parametrize("how", ["opened", "verified", "moved"])
def test_an_administrator_who_vouches_for_an_address_brings_what_is_addressed_to_it(
    client, vendor, boss, how
):
    email = makers.address()
    request = ask(vendor, email)
    if how == "opened":
        body = {"email": email, "name": "Some One", "password": makers.PASSWORD, "emailVerified": True}
        assert boss.post("/admin/users", body).status_code == 201
        signed_in = client.simulate_post(
            "/api/auth/login", json={"email": email, "password": makers.PASSWORD}
        )
        customer = Visitor(client, signed_in.json["data"]["accessToken"])
    else:
        customer = registered(client, email=email if how == "verified" else None)
        assert not belongs_to(customer, request)
        rename(boss, customer, email, proved=True)
    assert belongs_to(customer, request)


def test_a_request_follows_its_customer_and_not_the_address(client, vendor, boss):
    customer = registered(client)
    old, new = customer.user["email"], makers.address()
    verify_email(customer)
    open_request, paid = ask(vendor, old), ask(vendor, old)
    assert pay(customer, paid).status_code == 201
    work()

    rename(boss, customer, new)
    next_owner = registered(client, email=old)
    verify_email(next_owner)

    for request in (open_request, paid):
        assert next_owner.get(f"/payments/{request}").status_code == 404
        assert customer.get(f"/payments/{request}").status_code == 200
        # The vendor goes on seeing what they wrote.
        assert vendor.get(f"/payments/{request}").json["data"]["customerEmail"] == old
    assert next_owner.get("/payments").json["data"]["items"] == []
    assert next_owner.get("/payments/history").json["data"]["items"] == []
    assert error(pay(next_owner, open_request)) == (404, "NOT_FOUND")
    # What is addressed to the old address from now on is for its next owner.
    assert belongs_to(next_owner, ask(vendor, old))
    assert pay(customer, open_request).status_code == 201


def test_a_request_that_is_addressed_anew_changes_hands_with_its_history(client, vendor):
    first, second, unproved = registered(client), registered(client), registered(client)
    verify_email(first)
    verify_email(second)
    request = ask(vendor, first.user["email"])
    for who in (second, unproved):
        body = {"customerEmail": who.user["email"]}
        assert vendor.send("PUT", f"/payments/{request}", body).status_code == 200
        found = [it for it in (first, second, unproved) if belongs_to(it, request)]
        assert found == ([second] if who is second else [])
    verify_email(unproved)
    assert belongs_to(unproved, request)


def test_only_a_customer_pays_what_is_addressed_to_them(client, vendor, boss):
    customer = registered(client)
    verify_email(customer)
    request = ask(vendor, customer.user["email"])
    path = f"/admin/users/{customer.user['id']}/role"
    boss.send("PUT", path, {"role": "VENDOR"})
    assert customer.get(f"/payments/{request}").status_code == 404
    assert error(pay(customer, request)) == (403, "FORBIDDEN")
    boss.send("PUT", path, {"role": "CUSTOMER"})
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


def test_a_page_of_a_customer_with_many_addressed_requests_costs_what_is_on_it(client, vendor):
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
