"""GET /payments/history: every transition that the caller may see, newest first."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from db import idempotency, payments, postgres
from db.core import times
from db.payments import PaymentTransaction
from db.users import Role
from tests import makers
from tests.makers import Visitor, error, verify_email, visitor, work

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made(caller: Visitor, **body: object) -> str:
    """Create a payment, run its jobs, return its id."""
    id = caller.post("/payments", body).json["data"]["id"]
    work()
    return str(id)


def pay(customer: Visitor, **more: object) -> str:
    return made(customer, type="payment", **({} if "requestId" in more else {"amount": "12.50"}), **more)


def ask(vendor: Visitor, **more: object) -> str:
    return made(vendor, type="initiate", **{"amount": "80.00", **more})


def history(caller: Visitor, query: str = "") -> list[dict[str, object]]:
    result = caller.get(f"/payments/history{query}")
    assert result.status_code == 200, result.text
    items: list[dict[str, object]] = result.json["data"]["items"]
    return items


def steps(items: list[dict[str, object]]) -> list[object]:
    return [item["transactionType"] for item in items]


def test_history_lists_every_transition_newest_first(customer):
    id = pay(customer, metadata={"simulate": "decline:expired_card"})
    items = history(customer)
    found = [(item["transactionType"], item["status"], item["metadata"]) for item in items]
    assert found == [
        ("fail", "failed", {"from": "processing", "reason": "expired_card"}),
        ("begin", "processing", {"from": "pending", "reason": None}),
        ("create", "pending", {"from": None, "reason": None}),
    ]
    for item in items:
        assert item.keys() == {
            *("id", "paymentId", "transactionType", "amount", "currency", "status", "metadata", "createdAt")
        }
        assert (item["paymentId"], item["amount"], item["currency"]) == (id, "12.50", "USD")


def test_history_shows_the_amount_at_the_time(vendor):
    id = ask(vendor, amount="500", currency="JPY")
    vendor.send("PUT", f"/payments/{id}", {"amount": "7.50", "currency": "EUR"})
    vendor.send("DELETE", f"/payments/{id}")
    work()
    money = [(item["amount"], item["currency"]) for item in history(vendor)]
    assert money == [("7.50", "EUR"), ("500", "JPY"), ("500", "JPY")]


def test_each_role_sees_the_history_of_its_payments(client, customer, vendor, admin):
    verify_email(customer)
    link, alone = ask(vendor), pay(customer)
    addressed = ask(vendor, customerEmail=customer.user["email"].upper())
    against = pay(customer, requestId=link)

    def sees(caller: Visitor) -> set[object]:
        return {item["paymentId"] for item in history(caller, "?limit=100")}

    assert sees(customer) == {alone, against, addressed}
    assert sees(vendor) == {link, addressed, against}
    assert sees(admin) == {link, addressed, alone, against}
    assert sees(visitor(client)) == sees(visitor(client, Role.VENDOR)) == set()

    vendor.send("PUT", f"/payments/{addressed}", {"customerEmail": None})
    assert sees(customer) == {alone, against}


def test_a_transition_visible_twice_is_listed_once(customer):
    # The customer was a vendor before and addressed the request to their own address.
    me = UUID(customer.user["id"])
    columns = {
        "type": "initiate",
        "status": "pending",
        "amount": 1,
        "customer_email": customer.user["email"],
        "addressee_id": me,
    }
    request = payments.new(user_id=me, payee_id=me, currency="USD", **columns)
    idempotency.accept(request, [], actor_id=me)
    assert steps(history(customer)) == ["create"]
    assert [item["id"] for item in customer.get("/payments").json["data"]["items"]] == [str(request.id)]


def test_history_is_filtered_by_payment(client, customer, vendor, admin):
    first, second = pay(customer), pay(customer)
    for id in (first, second):
        assert steps(history(customer, f"?paymentId={id}")) == ["complete", "begin", "create"]
    assert len(history(admin, f"?paymentId={first}")) == 3
    stranger, link = visitor(client), ask(vendor)
    for caller, id in ((stranger, first), (vendor, first), (customer, link), (admin, str(uuid4()))):
        assert history(caller, f"?paymentId={id}") == []


def test_history_includes_from_excludes_to(customer, admin):
    id = pay(customer)
    for hours, row in enumerate(payments.history(UUID(id))):
        moment = NOON + timedelta(hours=hours)
        with makers.triggers_disabled():
            PaymentTransaction.update(created_at=moment).where(PaymentTransaction.id == row.id).execute()

    def between(begin: datetime | None, end: datetime | None) -> list[object]:
        pairs = (("from", begin), ("to", end))
        query = "&".join(f"{name}={times.iso(moment)}" for name, moment in pairs if moment)
        return steps(history(customer, f"?{query}"))

    hour = timedelta(hours=1)
    assert between(NOON, NOON + 2 * hour) == ["begin", "create"]
    assert between(NOON + hour, None) == ["complete", "begin"]
    assert between(None, NOON) == []
    assert between(NOON + 2 * hour, NOON) == []
    assert len(history(customer, f"?paymentId={id}&from=2026-03-01T15:30:00%2B02:30")) == 2


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_of_the_history_neither_skip_nor_repeat(customer, vendor, limit):
    verify_email(customer)
    ids = [pay(customer), pay(customer), ask(vendor, customerEmail=customer.user["email"])]
    seen: list[object] = []
    cursor: str | None = ""
    while cursor is not None:
        data = customer.get(f"/payments/history?limit={limit}{cursor}").json["data"]
        assert data["pagination"]["limit"] == limit
        seen += [(item["paymentId"], item["transactionType"]) for item in data["items"]]
        token = data["pagination"]["nextCursor"]
        cursor = f"&cursor={token}" if token else None
        pay(customer)
    ends = ("begin", "create")
    assert seen == [(ids[2], item) for item in ends] + [
        (id, item) for id in (ids[1], ids[0]) for item in ("complete", *ends)
    ]


def test_transitions_of_one_instant_are_neither_skipped_nor_repeated(customer, vendor):
    verify_email(customer)
    for _ in range(3):
        pay(customer)
        ask(vendor, customerEmail=customer.user["email"])
    with makers.triggers_disabled():
        PaymentTransaction.update(created_at=NOON).execute()
    everything = [row.id for row in PaymentTransaction.select()]
    seen: list[UUID] = []
    query: str | None = ""
    while query is not None:
        data = customer.get(f"/payments/history?limit=4{query}").json["data"]
        seen += [UUID(item["id"]) for item in data["items"]]
        token = data["pagination"]["nextCursor"]
        query = f"&cursor={token}" if token else None
    assert sorted(seen) == sorted(everything)


def test_a_page_of_the_history_reads_only_its_rows(customer, vendor, admin):
    postgres.set_statement_timeout(60)
    others = {"user_id": UUID(vendor.user["id"]), "payee_id": UUID(vendor.user["id"])}
    request = makers.payment_row(
        **others, type="initiate", status="initiated", amount=1, customer_email="a@b.example"
    )
    # Without foreign key checks: they take long on a loaded machine.
    with makers.triggers_disabled():
        postgres.rows(
            "INSERT INTO payments.payments (user_id, payee_id, type, status, amount, customer_email, created_at)"
            " SELECT user_id, payee_id, type, status, amount, n || customer_email,"
            " created_at - n * interval '1 minute'"
            " FROM payments.payments, generate_series(1, 5000) AS n WHERE id = %s",
            request.id,
        )
        postgres.rows(
            "INSERT INTO payments.payment_transactions"
            " (payment_id, transaction_type, amount, currency, status, user_id, payee_id, created_at)"
            " SELECT id, 'begin', amount, currency, status, user_id, payee_id, created_at FROM payments.payments,"
            " generate_series(1, 5)"
        )
    postgres.rows("ANALYZE payments.payments, payments.payment_transactions")

    def rows_read() -> int:
        read = "SELECT sum(seq_tup_read + idx_tup_fetch) AS rows FROM pg_stat_xact_user_tables"
        return int(postgres.rows(f"{read} WHERE schemaname = 'payments'")[0]["rows"])

    for caller in (customer, vendor, admin):
        before = rows_read()
        history(caller)
        assert rows_read() - before < 200, caller.user["role"]


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("paymentId=7", "paymentId"),
        ("from=2026-03-01T00:00:00+01:00", "from"),
        ("from=2026-03-01", "from"),
        ("to=yesterday", "to"),
        ("to=2026-02-30T00:00:00Z", "to"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=abc", "cursor"),
        ("status=completed", "status"),
        ("from=2026-03-01T00:00:00Z&from=2026-03-02T00:00:00Z", "from"),
    ],
)
def test_an_invalid_history_query_is_refused(customer, query, wrong):
    result = customer.get(f"/payments/history?{query}")
    assert error(result) == (400, "VALIDATION_ERROR")
    assert [fault["field"] for fault in result.json["error"]["details"]["fields"]] == [wrong]
