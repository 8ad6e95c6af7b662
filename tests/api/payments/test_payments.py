"""Create, list and read payments: permissions, validation, visibility, pages."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import peewee
import pytest

from db import event_log, payments, postgres
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, verify_email, visitor, work


def pay(caller: Visitor, **more):
    return caller.post("/payments", {"type": "payment", "amount": "12.50", **more})


def ask(caller: Visitor, **more):
    return caller.post("/payments", {"type": "initiate", "amount": "80.00", **more})


def fields(result) -> dict[str, str]:
    assert error(result) == (400, "VALIDATION_ERROR")
    return {fault["field"]: fault["message"] for fault in result.json["error"]["details"]["fields"]}


def test_a_payment_is_accepted_then_settled_by_workers(customer):
    result = pay(customer, description="Lunch", metadata={"table": 4})
    assert result.status_code == 201
    data = result.json["data"]
    assert data == {
        "id": data["id"],
        "userId": customer.user["id"],
        "type": "payment",
        "status": "pending",
        "amount": "12.50",
        "currency": "USD",
        "description": "Lunch",
        "metadata": {"table": 4},
        "requestId": None,
        "customerEmail": None,
        "failure": None,
        "allowedActions": [],
        "version": 1,
        "createdAt": data["createdAt"],
        "updatedAt": data["updatedAt"],
    }
    assert data["createdAt"].endswith("Z")
    assert len(data["createdAt"]) == len("2026-01-31T09:30:00.125Z")

    work()

    settled = customer.get(f"/payments/{data['id']}")
    assert (settled.json["data"]["status"], settled.json["data"]["version"]) == ("completed", 3)


def test_a_declined_payment_has_a_failure(customer):
    id = pay(customer, metadata={"simulate": "decline:expired_card"}).json["data"]["id"]
    work()
    data = customer.get(f"/payments/{id}").json["data"]
    assert data["status"] == "failed"
    assert data["failure"] == {"code": "expired_card", "message": "The payment was declined: expired card."}


def test_events_with_audit_entries_carry_the_request_id(customer):
    headers = {"X-Request-ID": "lunch-1"}
    id = customer.post("/payments", {"type": "payment", "amount": 1}, headers=headers).json["data"]["id"]
    work()
    assert {line.request_id for line in makers.audit_entries(id)} == {"lunch-1"}
    assert {event.request_id for event in event_log.after(0, 100) if event.data["id"] == id} == {"lunch-1"}


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("0.01", "USD", "0.01"),
        (0.01, "USD", "0.01"),
        (5, "EUR", "5.00"),
        ("99999999.99", "USD", "99999999.99"),
        (99999999.99, "USD", "99999999.99"),
        ("500", "JPY", "500"),
        (500, "JPY", "500"),
        (500.0, "JPY", "500"),
        (1e2, "JPY", "100"),
        ("7.5", "CHF", "7.50"),
    ],
)
def test_an_amount_is_returned_with_the_decimals_of_its_currency(customer, amount, currency, shown):
    assert pay(customer, amount=amount, currency=currency).json["data"]["amount"] == shown


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("0", "USD"), ("0.00", "USD"), ("0.001", "USD"), (0.001, "USD"), ("-1", "USD"), (-1, "USD"),
        ("500.00", "JPY"), ("12.500", "USD"), ("0012.50", "USD"), ("00", "USD"),
        ("100000000.00", "USD"), (1e30, "USD"), (1e999, "USD"), ("1.234", "USD"), ("1.5", "JPY"), (1.5, "JPY"),
        ("abc", "USD"), ("", "USD"), ("1e3", "USD"), ("1_000", "USD"), (" 1", "USD"), ("١", "USD"), ("NaN", "USD"),
        ("Infinity", "USD"), ("+1", "USD"), (True, "USD"), ([1], "USD"), ({}, "USD"), (None, "USD"),
    ],
)  # fmt: skip
def test_an_invalid_amount_is_refused(customer, amount, currency):
    result = pay(customer, amount=amount, currency=currency)
    assert result.status_code == 400
    if result.json["error"]["code"] == "VALIDATION_ERROR":
        assert fields(result).keys() == {"amount"}


@pytest.mark.parametrize("currency", ["usd", "US", "USDD", "ABC", "KWD", "CLF", "XAU", "", 840])
def test_an_unsupported_currency_is_refused(customer, currency):
    assert "currency" in fields(pay(customer, currency=currency))


def test_text_with_metadata_has_limits(customer):
    assert pay(customer, description="ü" * 500, metadata={"a": "x" * 8000}).status_code == 201
    refused = fields(pay(customer, description="ü" * 501, metadata={"a": "x" * 8200}))
    assert refused.keys() == {"description", "metadata"}
    # The size of the compact JSON counts, not that of the text as sent.
    room = 8 * 1024 - len('{"a":""}')
    assert pay(customer, metadata={"a": "x" * room}).status_code == 201
    assert fields(pay(customer, metadata={"a": "x" * (room + 1)})).keys() == {"metadata"}
    assert pay(customer, metadata={"many": [1] * 4000}).status_code == 201
    result = customer.post(
        "/payments",
        body=b'{"type": "payment", "amount": 1, "metadata": {"a": 1e999}}',
        headers={"Content-Type": "application/json"},
    )
    assert fields(result).keys() == {"metadata"}


def test_each_role_creates_its_own_type(customer, vendor, admin):
    assert error(ask(customer)) == (403, "FORBIDDEN")
    assert error(pay(vendor)) == (403, "FORBIDDEN")
    assert error(pay(admin)) == (403, "FORBIDDEN")
    assert error(ask(admin)) == (403, "FORBIDDEN")
    assert ask(vendor).status_code == 201
    work()
    assert makers.refusals(customer, vendor, admin) == 4


def test_any_customer_with_its_id_can_pay_an_open_request(customer, vendor):
    request = ask(vendor, description="Two chairs").json["data"]
    work()
    seen = customer.get(f"/payments/{request['id']}").json["data"]
    assert (seen["status"], seen["allowedActions"]) == ("initiated", ["pay"])

    result = customer.post("/payments", {"type": "payment", "requestId": request["id"]})
    assert result.status_code == 201
    assert (result.json["data"]["amount"], result.json["data"]["requestId"]) == ("80.00", request["id"])
    again = customer.post("/payments", {"type": "payment", "requestId": request["id"]})
    assert error(again) == (409, "REQUEST_NOT_PAYABLE")

    work()
    assert vendor.get(f"/payments/{request['id']}").json["data"]["status"] == "completed"
    again = customer.post("/payments", {"type": "payment", "requestId": request["id"]})
    assert error(again) == (409, "REQUEST_NOT_PAYABLE")


def test_an_addressed_request_is_hidden_from_others(client, customer, vendor):
    verify_email(customer)
    request = ask(vendor, customerEmail=customer.user["email"].upper()).json["data"]
    work()
    stranger = visitor(client)
    assert error(stranger.get(f"/payments/{request['id']}")) == (404, "NOT_FOUND")
    paid = stranger.post("/payments", {"type": "payment", "requestId": request["id"]})
    assert error(paid) == (404, "NOT_FOUND")
    assert [item["id"] for item in customer.get("/payments").json["data"]["items"]] == [request["id"]]
    assert customer.post("/payments", {"type": "payment", "requestId": request["id"]}).status_code == 201


def pay_request(caller: Visitor, request: str, *, version: str | None = None, **seen):
    headers = {"If-Match": version} if version else {}
    return caller.post("/payments", {"type": "payment", "requestId": request, **seen}, headers=headers)


@pytest.mark.parametrize(
    "seen", [{"amount": "80.00"}, {"amount": 80}, {"currency": "USD"}, {"amount": "80", "currency": "USD"}]
)
def test_a_payer_may_repeat_the_amount_of_a_request(customer, vendor, seen):
    request = ask(vendor).json["data"]
    work()
    result = pay_request(customer, request["id"], **seen)
    assert result.status_code == 201
    assert (result.json["data"]["amount"], result.json["data"]["currency"]) == ("80.00", "USD")


@pytest.mark.parametrize(
    "seen", [{"amount": "10.00"}, {"amount": 80.01}, {"currency": "GBP"}, {"amount": 80, "currency": "EUR"}]
)
def test_a_payment_with_outdated_terms_is_refused(customer, vendor, seen):
    request = ask(vendor).json["data"]
    work()
    result = pay_request(customer, request["id"], **seen)
    assert error(result) == (409, "REQUEST_CHANGED")
    assert result.json["error"]["details"] == {"amount": "80.00", "currency": "USD"}
    assert work() == []
    assert customer.get(f"/payments/{request['id']}").json["data"]["status"] == "initiated"
    assert payments.Payment.select().count() == 1


def test_a_payment_with_an_outdated_if_match_is_refused(customer, vendor):
    request = ask(vendor).json["data"]["id"]
    work()
    seen = customer.get(f"/payments/{request}").headers["ETag"]
    assert (
        vendor.send("PUT", f"/payments/{request}", {"amount": "9999.00", "currency": "GBP"}).status_code
        == 200
    )
    assert error(pay_request(customer, request, version=seen)) == (412, "VERSION_MISMATCH")
    assert error(pay_request(customer, request, version="nonsense")) == (412, "VERSION_MISMATCH")
    assert payments.Payment.select().count() == 1
    seen = customer.get(f"/payments/{request}").headers["ETag"]
    assert pay_request(customer, request, version=seen).json["data"]["amount"] == "9999.00"
    # REQUEST_NOT_PAYABLE takes precedence over VERSION_MISMATCH.
    assert error(pay_request(customer, request, version=seen)) == (409, "REQUEST_NOT_PAYABLE")


def test_an_unknown_request_cannot_be_paid(customer):
    assert fields(pay_request(customer, "7")).keys() == {"requestId"}
    assert error(pay_request(customer, str(uuid4()))) == (404, "NOT_FOUND")
    assert error(pay_request(customer, str(uuid4()), version='"1"')) == (404, "NOT_FOUND")
    assert fields(pay_request(customer, str(uuid4()), amount="500.00", currency="JPY")).keys() == {"amount"}


def test_all_errors_of_a_new_payment_are_reported_at_once(customer):
    assert fields(pay(customer, amount="1.234", currency="XXX")).keys() == {"amount", "currency"}
    everything = pay(customer, amount=True, currency=1, description=2, metadata=[], colour="red")
    assert fields(everything).keys() == {"amount", "currency", "description", "metadata", "colour"}
    assert fields(customer.post("/payments", {"type": "gift"})).keys() == {"type", "amount"}
    assert fields(customer.post("/payments", {"amount": "1.00", "requestId": 3})).keys() == {
        "type",
        "requestId",
    }


def test_only_a_payment_request_names_a_customer(customer, vendor):
    assert fields(pay(customer, customerEmail="a@b.example")).keys() == {"customerEmail"}
    assert fields(ask(vendor, requestId=str(uuid4()))).keys() == {"requestId"}
    nothing = {"requestId": None, "customerEmail": None, "currency": None, "description": None}
    assert ask(vendor, **nothing).json["data"]["currency"] == "USD"
    assert pay(customer, **nothing).json["data"]["currency"] == "USD"


def test_each_role_sees_its_payments(client, customer, vendor, admin):
    request = ask(vendor).json["data"]["id"]
    work()
    against = customer.post("/payments", {"type": "payment", "requestId": request}).json["data"]["id"]
    alone = pay(customer).json["data"]["id"]
    work()

    def sees(caller: Visitor) -> set[str]:
        return {item["id"] for item in caller.get("/payments").json["data"]["items"]}

    assert sees(customer) == {against, alone}
    assert sees(vendor) == {request, against}
    assert sees(admin) >= {request, against, alone}
    assert sees(visitor(client)) == sees(visitor(client, Role.VENDOR)) == set()
    assert error(vendor.get(f"/payments/{alone}")) == (404, "NOT_FOUND")
    assert error(visitor(client).get(f"/payments/{alone}")) == (404, "NOT_FOUND")
    assert admin.get(f"/payments/{alone}").status_code == 200


def test_pages_of_a_list_neither_skip_nor_repeat(customer):
    made = [pay(customer).json["data"]["id"] for _ in range(7)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        data = customer.get(f"/payments?limit=3{cursor}").json["data"]
        assert data["pagination"]["limit"] == 3
        seen += [item["id"] for item in data["items"]]
        token = data["pagination"]["nextCursor"]
        cursor = f"&cursor={token}" if token else None
        pay(customer)
    assert seen == made[::-1]


def test_payments_of_one_instant_are_neither_skipped_nor_repeated(customer):
    made = {pay(customer).json["data"]["id"] for _ in range(5)}
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    payments.Payment.update(created_at=moment).execute()
    first = customer.get("/payments?limit=2").json["data"]
    rest = customer.get(f"/payments?limit=100&cursor={first['pagination']['nextCursor']}").json["data"]
    seen = [item["id"] for item in first["items"] + rest["items"]]
    assert (len(seen), set(seen)) == (5, made)
    assert rest["pagination"]["nextCursor"] is None


def test_a_list_is_filtered(customer, vendor):
    request = ask(vendor, currency="EUR").json["data"]["id"]
    work()
    paid = customer.post("/payments", {"type": "payment", "requestId": request}).json["data"]["id"]
    pay(customer, metadata={"simulate": "decline"})
    work()

    def found(query: str) -> list[str]:
        return [item["id"] for item in vendor.get(f"/payments?{query}").json["data"]["items"]]

    assert found("type=initiate") == [request]
    assert found(f"requestId={request}") == [paid]
    assert found("status=completed&currency=EUR&type=payment") == [paid]
    assert found("status=failed") == found("currency=USD") == []
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    assert found(f"from={soon}") == []
    assert len(found(f"to={soon}")) == 2
    assert error(vendor.get("/payments?from=2026-01-01")) == (400, "VALIDATION_ERROR")


def test_the_etag_of_a_payment_is_its_version(customer):
    id = pay(customer).json["data"]["id"]
    first = customer.get(f"/payments/{id}")
    assert first.headers["ETag"] == '"1"'
    assert customer.get(f"/payments/{id}", headers={"If-None-Match": '"1"'}).status_code == 304
    work()
    assert customer.get(f"/payments/{id}", headers={"If-None-Match": '"1"'}).headers["ETag"] == '"3"'


def test_the_database_itself_refuses_invalid_rows(database):
    request = makers.open_request()
    columns = {"user_id": request.user_id, "type": "payment", "amount": 1, "request_id": request.id}
    makers.bare_payment(**columns, status="pending")
    with pytest.raises(peewee.IntegrityError, match="one_live_per_request"), postgres.database.atomic():
        makers.payment_row(**columns, status="processing")


def test_a_filtered_page_reads_only_its_rows(customer, admin):
    postgres.set_statement_timeout(60)
    makers.bare_payment(
        user_id=customer.user["id"], type="payment", status="pending", amount=1, currency="CHF"
    )
    postgres.rows(
        "INSERT INTO payments.payments (user_id, type, status, amount, currency, created_at)"
        " SELECT user_id, type, status, amount, 'USD', created_at - n * interval '1 minute'"
        " FROM payments.payments, generate_series(1, 15000) AS n"
    )
    postgres.rows("ANALYZE payments.payments")

    def rows_read() -> int:
        read = "SELECT sum(seq_tup_read + idx_tup_fetch) AS rows FROM pg_stat_xact_user_tables"
        return int(postgres.rows(f"{read} WHERE schemaname = 'payments'")[0]["rows"])

    for query in (
        "currency=CHF",
        "currency=EUR",
        "currency=USD&status=failed",
        "needsReview=false",
        "needsReview=true",
    ):
        before = rows_read()
        assert admin.get(f"/payments?{query}").status_code == 200
        assert rows_read() - before < 200, query


def test_an_empty_filter_is_ignored(customer, admin):
    pay(customer)
    everything = customer.get("/payments").json["data"]
    blank = "&".join(
        f"{name}=" for name in ("status", "type", "currency", "from", "to", "requestId", "limit", "cursor")
    )
    assert customer.get(f"/payments?{blank}").json["data"] == everything
    assert len(admin.get("/payments?needsReview=&status=").json["data"]["items"]) >= 1
    assert admin.get("/admin/users?q=&role=&active=").status_code == 200
    assert admin.get("/admin/audit-logs?action=&userId=").status_code == 200
    assert fields(admin.get("/payments/differences?day=")).keys() == {"day"}


def test_an_unescaped_plus_in_a_timestamp_is_explained(customer):
    refused = fields(customer.get("/payments?from=2026-01-31T09:30:00+01:00&to=2026-02-01"))
    assert "%2B" in refused["from"]
    assert "%2B" not in refused["to"]
    assert customer.get("/payments?from=2026-01-31T09:30:00%2B01:00").status_code == 200
