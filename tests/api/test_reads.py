"""A request that reads costs one statement and one round trip to Redis, for every role and filter."""

from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from falcon.testing import TestClient

from db import live_sessions, pagination, postgres, redis, shown_payments, users
from db.core import times
from db.rate_counters import KEY_PREFIX
from db.shown_payments import PaymentFilter, ShownPayment, Visibility
from db.users import Role
from tests import makers
from tests.counting import Asked, counted
from tests.makers import Visitor, signed_in, visitor

FILTERS = (
    "",
    "?limit=20",
    "?status=completed",
    "?status=pending&type=payment",
    "?currency=USD",
    "?from=2026-01-01T00:00:00Z&to=2099-01-01T00:00:00Z",
    f"?requestId={UUID(int=7)}",
)
EVERYBODY = (
    "/auth/me",
    "/auth/sessions",
    "/profile",
    "/profile/preferences",
    "/payments/{payment}",
    "/payments/{request}",
    "/payments/history",
    "/payments/history?paymentId={payment}",
    *(f"/payments{query}" for query in FILTERS),
)
ADMIN = (
    "/payments?needsReview=true",
    "/admin/users",
    "/admin/users?role=VENDOR",
    "/admin/users/{user}",
    "/admin/users/{user}/sessions",
    "/admin/audit-logs",
    "/admin/events",
    "/admin/config",
)


@pytest.fixture
def app(database: None, make_client, stores) -> TestClient:
    """The application with a limit on requests."""
    client = redis.connect(stores["REDIS_URL"])
    for key in client.scan_iter(f"{KEY_PREFIX}*"):
        client.delete(key)
    client.connection_pool.disconnect()
    return make_client(RATE_LIMIT_API="1000/minute")


@pytest.fixture(autouse=True)
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is remembered becomes too old on a slow machine."""
    monkeypatch.setattr(live_sessions, "monotonic", lambda: 1000.0)


def user_of(visitor: Visitor) -> users.User:
    return users.User.get_by_id(visitor.user["id"])


@pytest.fixture
def people(app: TestClient) -> dict[str, Visitor]:
    return {role: visitor(app, role) for role in Role}


@pytest.fixture
def ids(people: dict[str, Visitor]) -> dict[str, UUID]:
    """A payment of the customer against a request of the vendor, another request that anyone may pay."""
    customer, vendor = user_of(people[Role.CUSTOMER]), user_of(people[Role.VENDOR])
    signed_in(people[Role.ADMIN].client, customer)
    request = makers.open_request(vendor)
    payment = makers.payment(customer)
    makers.work()
    return {"payment": payment.id, "request": request.id, "user": customer.id}


def asked_by(visitor: Visitor, path: str, **more: object) -> tuple[int, Asked]:
    """The status and the cost of a request to a process that has seen the caller and the route before."""
    visitor.get(path, **more)
    with counted() as asked:
        result = visitor.get(path, **more)
    return result.status_code, asked


@pytest.mark.parametrize(
    ("role", "path"),
    [*((role, path) for role in Role for path in EVERYBODY), *((Role.ADMIN, path) for path in ADMIN)],
)
def test_it_costs_one_statement_and_one_round_trip_to_redis(people, ids, role, path):
    status, asked = asked_by(people[role], path.format(**ids))
    assert status == (404 if (role, path) == (Role.VENDOR, "/payments/{payment}") else 200)
    assert len(asked.statements) == 1, asked.statements
    assert len(asked.trips) == 1


def test_an_unchanged_payment_costs_one_statement(people, ids):
    path, headers = f"/payments/{ids['payment']}", {"If-None-Match": '"3"'}
    status, asked = asked_by(people[Role.CUSTOMER], path, headers=headers)
    assert (status, len(asked.statements)) == (304, 1)


def test_a_head_costs_what_the_get_costs(people, ids):
    path = f"/payments/{ids['request']}"
    people[Role.CUSTOMER].send("HEAD", path)
    with counted() as asked:
        result = people[Role.CUSTOMER].send("HEAD", path)
    assert (result.status_code, len(asked.statements), len(asked.trips)) == (200, 1, 1)


@pytest.mark.parametrize("token", ["", "garbage", "garbage.of.three"])
def test_a_request_without_a_valid_token_costs_no_statement(app, token):
    status, asked = asked_by(Visitor(app, token), "/payments")
    assert (status, asked.statements, len(asked.trips)) == (401, [], 1)


def test_a_request_over_the_limit_costs_no_statement(people, make_client):
    client = make_client(RATE_LIMIT_API="1/minute")
    status, asked = asked_by(Visitor(client, people[Role.CUSTOMER].token), "/payments")
    assert (status, asked.statements, len(asked.trips)) == (429, [], 1)


def test_the_first_request_of_a_caller_costs_two(people, ids):
    with counted() as asked:
        people[Role.CUSTOMER].get(f"/payments/{ids['payment']}")
    assert asked.statements == [
        live_sessions.FIND_LIVE_SESSION.execute,
        shown_payments.FIND_PAYMENT.execute,
    ]


def test_the_columns_of_the_statements_are_those_of_the_record(people, ids):
    user = {"user_id": ids["user"], "before": "infinity", "before_id": UUID(int=2**128 - 1), "count": 1}
    one = {name: value for name, value in user.items() if name != "user_id"}
    fields = cast(Any, ShownPayment)._fields
    for statement, parameters in (
        (shown_payments.FIND_PAYMENT, {"id": ids["payment"]}),
        (shown_payments.NEWEST_PAYMENTS, one),
        (shown_payments.NEWEST_PAYMENTS_OF_VENDOR, user),
        (shown_payments.NEWEST_PAYMENTS_OF_CUSTOMER, user),
    ):
        cursor = postgres.database.execute_prepared(statement, parameters)
        assert tuple(column.name for column in cursor.description) == fields


def test_pages_of_own_payments_with_addressed_requests_neither_skip_nor_repeat(people):
    """Also where the customer's own request is addressed to the customer, a vendor before."""
    customer, vendor = user_of(people[Role.CUSTOMER]), user_of(people[Role.VENDOR])
    made, now = [], times.now()
    for n in range(12):
        own, at = n % 3 == 0, now + timedelta(seconds=n // 2)
        kind = {"type": "payment"} if n % 3 == 1 else {"type": "initiate", "customer_email": "a@b.example"}
        addressee = {} if n % 3 == 1 else {"addressee_id": customer.id}
        user_id = customer.id if own or n % 3 == 1 else vendor.id
        row = makers.payment_row(
            user_id=user_id, status="pending", amount=1, created_at=at, **kind, **addressee
        )
        made.append((at, row.id))
    expected = [id for _, id in sorted(made, reverse=True)]
    scope = Visibility(user_id=customer.id, addressee_id=customer.id)
    for filters in (PaymentFilter(), PaymentFilter(status="pending")):
        found, after = [], None
        while True:
            page = shown_payments.page(scope, filters, limit=5, after=after)
            found += [payment.id for payment in page.items]
            if page.next_cursor is None:
                break
            after = pagination.Cursor.parse(page.next_cursor)
        assert found == expected
