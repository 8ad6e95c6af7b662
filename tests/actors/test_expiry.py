"""A payment request expires `payments.requestTtlHours` after its creation."""

import pytest
from psycopg2.extras import Json

from actors import payable, payment_endings, payment_jobs
from actors.jobs import enqueue, transaction
from actors.psp.provider import Answer, Outcome
from db import config, event_log, payments, postgres
from db.payments import Payment
from db.users import Role
from tests import makers
from tests.makers import pay, work

pytestmark = pytest.mark.usefixtures("database")

WEEK = 168.0
# One second, in hours.
SECOND = 1 / 3600
JOB = "payments.expire_requests"


def run_expiry() -> list[str]:
    with transaction():
        enqueue(payment_endings.expire_requests.job())
    return work()


def set_age(request: Payment, *, hours_ago: float) -> Payment:
    postgres.rows(
        "UPDATE payments.payments SET created_at = clock_timestamp() - %s * interval '1 hour' WHERE id = %s",
        *(hours_ago, request.id),
    )
    return request


def set_lifetime(hours: float) -> None:
    postgres.rows(
        "INSERT INTO admin.system_config (key, value) VALUES ('payments.requestTtlHours', %s)", Json(hours)
    )
    config.clear_cache()


@pytest.mark.parametrize(
    ("ttl", "hours_ago", "status"),
    [
        (None, 0, "initiated"),
        (None, WEEK - SECOND, "initiated"),
        (None, WEEK, "failed"),
        (None, 10 * WEEK, "failed"),
        (1, 1 - SECOND, "initiated"),
        (1, 1, "failed"),
        (0.5, 0.5, "failed"),
        (1000, WEEK, "initiated"),
    ],
)
def test_an_unpaid_request_expires_at_the_end_of_its_lifetime(ttl, hours_ago, status):
    if ttl is not None:
        set_lifetime(ttl)
    request = set_age(makers.open_request(), hours_ago=hours_ago)
    assert run_expiry() == [JOB]
    assert makers.reload(request).status == status


def test_an_expired_request_has_its_history_audit_entry_and_events():
    request = set_age(makers.open_request(), hours_ago=WEEK)
    run_expiry()

    expired = makers.reload(request)
    assert (expired.failure_code, expired.failure_message) == ("expired", "The request was not paid in time.")
    [*_, row] = payments.history(request.id)
    assert (row.transaction_type, row.from_status, row.status) == ("expire", "initiated", "failed")
    assert (row.reason, row.actor_id) == ("expired", None)
    assert makers.audit_entries(request.id)[-1].action == "payments.payment.expire"
    found = [event for event in event_log.after(0, 1000) if event.data["id"] == str(request.id)][-2:]
    assert [(event.type, event.data["status"]) for event in found] == [
        ("payments:payment:updated", "failed"),
        ("payments:payment:failed", "failed"),
    ]
    assert found[-1].data["failure"]["code"] == "expired"
    with pytest.raises(payable.RequestNotPayable):
        pay(request)


def test_a_request_expires_once():
    request = set_age(makers.open_request(), hours_ago=WEEK)
    run_expiry()
    run_expiry()
    assert [row.transaction_type for row in payments.history(request.id)] == ["create", "begin", "expire"]


def test_a_request_with_a_payment_under_way_does_not_expire():
    request = set_age(makers.open_request(), hours_ago=2 * WEEK)
    payment = pay(request, simulate="blackout")
    run_expiry()
    assert makers.reload(request).status == "processing"

    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    work()
    run_expiry()
    assert makers.reload(request).status == "completed"


def test_a_reopened_request_expires():
    request = set_age(makers.open_request(), hours_ago=WEEK)
    pay(request, simulate="decline")
    work()
    assert makers.reload(request).status == "initiated"
    run_expiry()
    assert (makers.reload(request).status, makers.reload(request).failure_code) == ("failed", "expired")


def test_a_payment_never_expires():
    payment = makers.payment(simulate="blackout")
    work()
    set_age(payment, hours_ago=10 * WEEK)
    run_expiry()
    assert makers.reload(payment).status == "processing"


@pytest.mark.parametrize(("requests", "batches"), [(9, 1), (10, 2), (25, 3)])
def test_requests_expire_in_batches(monkeypatch, requests, batches):
    monkeypatch.setattr(payment_endings, "REQUEST_BATCH", 10)
    vendor = makers.user(Role.VENDOR)
    stale = makers.open_request(vendor)
    with makers.triggers_disabled():
        postgres.rows(
            "INSERT INTO payments.payments (user_id, payee_id, type, status, amount)"
            " SELECT user_id, payee_id, type, status, amount FROM payments.payments, generate_series(2, %s)"
            " WHERE id = %s",
            *(requests, stale.id),
        )
    old = "UPDATE payments.payments SET created_at = clock_timestamp() - interval '8 days' WHERE user_id = %s"
    postgres.rows(old, vendor.id)
    assert run_expiry() == [JOB] * batches
    now = "SELECT status, count(*) AS n FROM payments.payments WHERE user_id = %s GROUP BY status"
    left = postgres.rows(now, vendor.id)
    assert [(row["status"], row["n"]) for row in left] == [("failed", requests)]
