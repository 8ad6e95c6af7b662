"""A pooler may stand in front of PostgreSQL, in transaction mode: each transaction may get another session."""

import os
from uuid import UUID

import pytest

from db import live_sessions, pool
from db.database import Database
from db.pool import DatabaseUnavailable
from tests.flows.conftest import Customer, Stack
from tests.flows.pooled.conftest import PGBOUNCER, SESSIONS
from tests.frozen import frozen
from tests.makers import until

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None and not os.environ.get("CI"), reason="pgbouncer is not installed on this machine"
)


def answers(database: Database) -> bool:
    try:
        database.connect()
        try:
            database.execute_sql("UPDATE journal.health_check SET written_at = clock_timestamp()")
        finally:
            database.close()
    except DatabaseUnavailable:
        return False
    return True


def test_the_whole_life_of_payments_and_requests_goes_through_it(stack: Stack):
    customer = stack.customer()
    paid = [customer.pay(simulate=how) for how in ("approve", "decline", "timeout", "slow", "error")]
    assert customer.settled(paid) == ["completed", "failed", "completed", "completed", "completed"]

    body = {"email": "vendor@pooled.example", "password": "correct horse battery", "name": "Vi"}
    made = stack.http.post("/api/auth/register", json={**body, "role": "VENDOR"}).raise_for_status().json()
    vendor = Customer(stack, {"Authorization": f"Bearer {made['data']['accessToken']}"})
    request = {"type": "initiate", "amount": "80.00", "currency": "EUR"}
    created = stack.http.post("/api/payments", json=request, headers=vendor.headers).raise_for_status()
    ids = [created.json()["data"]["id"]]
    created = stack.http.post(
        "/api/payments",
        json=request,
        headers={**vendor.headers, "Idempotency-Key": "once", "Prefer": "wait=5"},
    )
    ids.append(created.json()["data"]["id"])
    until(lambda: [vendor.status(id) for id in ids] == ["initiated", "initiated"])
    gone = stack.http.delete(f"/api/payments/{ids[0]}", headers=vendor.headers)
    assert gone.status_code == 202
    until(lambda: vendor.status(ids[0]) == "cancelled")

    against = {"type": "payment", "requestId": ids[1], "metadata": {"simulate": "approve"}}
    answer = stack.http.post("/api/payments", json=against, headers=customer.headers)
    assert customer.settled([answer.json()["data"]["id"]]) == ["completed"]
    report = stack.http.get("/api/payments/reports", headers=vendor.headers).raise_for_status().json()["data"]
    [euros] = [total for total in report["totals"] if total["currency"] == "EUR"]
    assert "80.00" in str(euros)
    csv = stack.http.get("/api/payments/reports", headers={**vendor.headers, "Accept": "text/csv"})
    assert "80.00" in csv.raise_for_status().text

    until(stack.all_published)
    until(lambda: stack.health() == "ok")
    assert stack.rows("SELECT count(*) AS n FROM journal.jobs WHERE dead_at IS NOT NULL")[0]["n"] == 0


def test_few_sessions_serve_all_processes_and_none_keeps_a_lock(stack: Stack):
    sessions = "SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend'"
    # The pooler's, and this one.
    assert stack.rows(sessions)[0]["n"] <= SESSIONS + 1
    kept = (
        "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND state = 'idle' AND state_change < clock_timestamp() - interval '1 second'"
    )
    assert stack.rows(kept) == []


def test_statements_have_their_time_limits_all_the_same(stack: Stack):
    database = Database()
    database.configure(stack.database_url, connections=2)
    database.connect()
    try:
        for name, value in {**pool.SESSION_TIMEOUTS, "TimeZone": "UTC"}.items():
            assert database.execute_sql(f"SHOW {name}").fetchone()[0] == value
            with database.atomic():
                assert database.execute_sql(f"SHOW {name}").fetchone()[0] == value
    finally:
        database.close()


def test_no_statement_is_prepared_in_a_session_that_others_share(stack: Stack):
    database = Database()
    database.configure(stack.database_url, connections=2)
    database.connect()
    try:
        assert not database._thread.conn.owns_session
        find = {"session_id": UUID(int=0)}
        assert database.execute_prepared(live_sessions.FIND_LIVE_SESSION, find).fetchall() == []
        assert database.execute_sql("SELECT name FROM pg_prepared_statements").fetchall() == []
    finally:
        database.close()


def test_a_frozen_server_behind_it_is_away_and_comes_back(stack: Stack):
    database = Database()
    database.configure(stack.database_url, connections=2)
    assert answers(database)
    with frozen(stack.postgres):
        assert not answers(database)
        until(lambda: stack.http.get("/health").status_code == 503, 20)
        answer = stack.http.post("/api/auth/login", json={"email": "a@b.example", "password": "12345678"})
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    until(lambda: answers(database), 30)
    until(lambda: stack.health() == "ok", 60)
