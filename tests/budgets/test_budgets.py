"""What a request, and a payment to its end, may ask of PostgreSQL and Redis: counted, the same on every machine."""

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import psycopg2
import pytest
from falcon.testing import TestClient

from actors import mail_sender
from actors.psp import provider
from actors.settings import MailSettings
from api.app import create_app
from api.settings import WebSettings
from db import config, payments, postgres
from db.users import Role
from tests import makers
from tests.counting import counted
from tests.makers import JOBS, SECRETS, Visitor, visitor

# As in production: each request is counted.
LIMITS = {"RATE_LIMIT_API": "1000000/15minutes", "RATE_LIMIT_AUTH": "1000000/15minutes"}
BATCH = 50
# The updates of each table, by those that touch no index (HOT).
UPDATES = """
    SELECT relid::text, count(*), count(*) FILTER (WHERE record_type LIKE 'HOT%%')
    FROM pg_get_wal_block_info(%s, pg_current_wal_flush_lsn())
    JOIN (SELECT oid::regclass AS relid, relfilenode FROM pg_class WHERE relkind = 'r') AS tables USING (relfilenode)
    WHERE resource_manager = 'Heap' AND record_type LIKE '%%UPDATE%%' AND block_id = 0 GROUP BY 1
"""
# Budgets of a payment, from its POST until its audit entries, events and mail are written. They only ever fall.
STATEMENTS, WRITE_TRANSACTIONS, WAL_BYTES = 5, 3, 11_200
# How often the cost is counted.
ATTEMPTS = 3
READS = (
    "/auth/me",
    "/auth/sessions",
    "/payments/{id}",
    "/payments?limit=20",
    "/payments?limit=20&status=pending",
    "/payments/history?limit=20",
    "/payments/history?paymentId={id}",
    "/profile",
)
PAYMENT = {"type": "payment", "amount": "12.50"}


class Counters(NamedTuple):
    """What the server has done since it was started."""

    wal_bytes: int
    transactions: int


class Cost(NamedTuple):
    """What a payment costs."""

    statements: float
    transactions: float
    wal_bytes: float


@pytest.fixture
def client(stores: dict[str, str], lasting_caches: None) -> Iterator[TestClient]:
    """A client whose requests commit, as in production: in a test's transaction nothing is sent twice."""
    settings = {**SECRETS, **stores, **LIMITS}
    provider.choose(makers.stub())
    mail_sender.configure(MailSettings.read(settings), transport=makers.mailbox)
    config.clear_cache()
    makers.mailbox.clear()
    makers.wipe()
    yield TestClient(create_app(WebSettings.read(settings)))
    makers.wipe()
    makers.mailbox.clear()


@pytest.fixture
def as_new(client: TestClient, stores: dict[str, str]) -> None:
    """Rebuilds the empty tables. Other tests leave index entries of random ids, and of a future that they have made.

    Between these a page that is full is split into halves, which is written; ids of the present time come last, and
    need no more than a new page there.
    """
    with closing(psycopg2.connect(stores["DATABASE_URL"])) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(
            "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables"
            " WHERE schemaname IN ('admin', 'auth', 'journal', 'payments', 'psp')"
        )
        [(tables,)] = cursor.fetchall()
        # It fails, and does not hang, where a test before has left a transaction open.
        cursor.execute("SET lock_timeout = '30s'")
        cursor.execute(f"VACUUM FULL {tables}")


def counters(url: str) -> Counters:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint,"
            " pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        )
        [(wal_bytes, transactions)] = cursor.fetchall()
    return Counters(wal_bytes, transactions)


def updates_since(url: str, position: str) -> dict[str, tuple[int, int]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
        cursor.execute(UPDATES, (position,))
        return {table: (all, hot) for table, all, hot in cursor.fetchall()}


def pay(caller: Visitor, key: str, kind: str = "payment") -> str:
    answer = caller.post("/payments", {**PAYMENT, "type": kind}, headers={"Idempotency-Key": key})
    assert answer.status_code == 201
    return str(answer.json["data"]["id"])


def do_all_jobs() -> None:
    """Does them as busy workers do: all that wait of one name together, then those of the next."""
    while True:
        with postgres.connection():
            job = makers.first_job()
            if job is None and not makers.deliver_events():
                return
        if job is not None:
            JOBS[job.name].handle(job.id)


@pytest.mark.parametrize(("role", "kind"), [(Role.CUSTOMER, "payment"), (Role.VENDOR, "initiate")])
@pytest.mark.parametrize("path", READS)
def test_a_reading_request_asks_each_store_at_most_once(client, role, kind, path):
    caller = visitor(client, role)
    path = path.format(id=pay(caller, "order-1", kind))
    caller.get(path)
    with counted() as asked:
        assert caller.get(path).status_code == 200
    assert len(asked.statements) <= 1, asked.statements
    assert len(asked.trips) <= 1, asked.trips


def test_a_payment_is_accepted_by_at_most_three_statements(client):
    caller = visitor(client)
    pay(caller, "order-1")
    with counted() as asked:
        pay(caller, "order-2")
    assert len(asked.statements) <= 3, asked.statements


def test_a_sign_in_takes_at_most_nine_statements(client):
    caller = visitor(client)
    credentials = {"email": caller.user["email"], "password": makers.PASSWORD}
    # The first one prepares statements.
    caller.post("/auth/login", credentials)
    with counted() as asked:
        assert caller.post("/auth/login", credentials).status_code == 200
    statements = [sql for sql in asked.statements if sql not in ("COMMIT", "ROLLBACK")]
    assert len(statements) <= 9, statements


def test_a_payment_to_its_end_costs_few_statements_transactions_and_bytes(client, stores, as_new):
    customers = [visitor(client) for _ in range(5)]
    # The server writes for itself too, such as vacuum after the tests before: the cheapest of a few counts.
    costs = [cost(customers, stores["DATABASE_URL"], f"order-{number}") for number in range(ATTEMPTS)]
    assert min(cost.statements for cost in costs) <= STATEMENTS
    assert min(cost.transactions for cost in costs) <= WRITE_TRANSACTIONS
    assert min(cost.wal_bytes for cost in costs) <= WAL_BYTES


def cost(customers: list[Visitor], url: str, order: str) -> Cost:
    """What one of a batch of payments costs, from its POST to its end."""
    ended_before = ended()
    makers.mailbox.clear()
    before = counters(url)
    with counted() as asked:
        for number in range(BATCH):
            pay(customers[number % len(customers)], f"{order}-{number}")
        do_all_jobs()
    after = counters(url)
    assert ended() - ended_before == BATCH
    assert len(makers.mailbox) == BATCH
    assert "SELECT 1" not in asked.statements
    return Cost(
        len(asked.statements) / BATCH,
        (after.transactions - before.transactions) / BATCH,
        (after.wal_bytes - before.wal_bytes) / BATCH,
    )


def ended() -> int:
    with postgres.connection():
        return int(
            payments.Payment.select().where(payments.Payment.status.in_(["completed", "failed"])).count()
        )


def test_a_change_of_status_touches_no_index(client, stores):
    customer = visitor(client)
    with postgres.connection():
        [start] = postgres.rows("SELECT pg_current_wal_flush_lsn()::text AS position")
    for number in range(BATCH):
        pay(customer, f"order-{number}")
    do_all_jobs()
    updates = updates_since(stores["DATABASE_URL"], start["position"])
    all, hot = updates["payments.payments"]
    assert all >= 2 * BATCH
    assert hot / all >= 0.9
