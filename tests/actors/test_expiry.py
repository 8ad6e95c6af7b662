"""A payment request is open for so long, and no longer."""

import pytest
from psycopg2.extras import Json

from actors import payable, payment_endings, payment_jobs
from actors.jobs import enqueue, transaction
from actors.psp.provider import Answer, Outcome
from db import audit_log, config, event_log, payments, postgres
from db.payments import Payment
from db.users import Role
from tests import makers
from tests.makers import pay, work

pytestmark = pytest.mark.usefixtures("database")

WEEK = 168.0
# A second, in hours.
MOMENT = 1 / 3600
DONE = "payments.expire_requests"


def expire() -> list[str]:
    with transaction():
        enqueue(payment_endings.expire_requests.job())
    return work()


def made(request: Payment, *, hours_ago: float) -> Payment:
    postgres.rows(
        "UPDATE payments.payments SET created_at = clock_timestamp() - %s * interval '1 hour' WHERE id = %s",
        *(hours_ago, request.id),
    )
    return request


def configured(hours: float) -> None:
    postgres.rows(
        "INSERT INTO admin.system_config (key, value) VALUES ('payments.requestTtlHours', %s)", Json(hours)
    )
    config.clear_cache()


@pytest.mark.parametrize(
    ("ttl", "hours_ago", "status"),
    [
        (None, 0, "initiated"),
        (None, WEEK - MOMENT, "initiated"),
        (None, WEEK, "failed"),
        (None, 10 * WEEK, "failed"),
        (1, 1 - MOMENT, "initiated"),
        (1, 1, "failed"),
        (0.5, 0.5, "failed"),
        (1000, WEEK, "initiated"),
    ],
)
def test_a_request_expires_when_nobody_has_paid_it_in_time(ttl, hours_ago, status):
    if ttl is not None:
        configured(ttl)
    request = made(makers.open_request(), hours_ago=hours_ago)
    assert expire() == [DONE]
    assert makers.reload(request).status == status


def test_what_has_expired_says_so():
    request = made(makers.open_request(), hours_ago=WEEK)
    expire()

    expired = makers.reload(request)
    assert (expired.failure_code, expired.failure_message) == ("expired", "The request was not paid in time.")
    [*_, moved] = payments.history(request.id)
    assert (moved.transaction_type, moved.from_status, moved.status) == ("expire", "initiated", "failed")
    assert (moved.reason, moved.actor_id) == ("expired", None)
    assert audit_log.of_resource(request.id)[-1].action == "payments.payment.expire"
    told = [event for event in event_log.after(0, 1000) if event.data["id"] == str(request.id)][-2:]
    assert [(event.type, event.data["status"]) for event in told] == [
        ("payments:payment:updated", "failed"),
        ("payments:payment:failed", "failed"),
    ]
    assert told[-1].data["failure"]["code"] == "expired"
    with pytest.raises(payable.RequestNotPayable):
        pay(request)


def test_a_request_expires_once():
    request = made(makers.open_request(), hours_ago=WEEK)
    expire()
    expire()
    assert [row.transaction_type for row in payments.history(request.id)] == ["create", "begin", "expire"]


def test_a_request_that_is_being_paid_does_not_expire():
    request = made(makers.open_request(), hours_ago=2 * WEEK)
    payment = pay(request, simulate="blackout")
    expire()
    assert makers.reload(request).status == "processing"

    payment_jobs.receive_notice(payment.id, Answer(Outcome.CHARGED))
    work()
    expire()
    assert makers.reload(request).status == "completed"


def test_a_request_whose_last_payment_failed_expires_then():
    request = made(makers.open_request(), hours_ago=WEEK)
    pay(request, simulate="decline")
    work()
    assert makers.reload(request).status == "initiated"
    expire()
    assert (makers.reload(request).status, makers.reload(request).failure_code) == ("failed", "expired")


def test_a_payment_by_itself_never_expires():
    payment = makers.payment(simulate="blackout")
    work()
    made(payment, hours_ago=10 * WEEK)
    expire()
    assert makers.reload(payment).status == "processing"


@pytest.mark.parametrize(("requests", "turns"), [(99, 1), (100, 2), (250, 3)])
def test_however_many_expire_no_transaction_is_long(requests, turns):
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
    assert expire() == [DONE] * turns
    now = "SELECT status, count(*) AS n FROM payments.payments WHERE user_id = %s GROUP BY status"
    left = postgres.rows(now, vendor.id)
    assert [(row["status"], row["n"]) for row in left] == [("failed", requests)]
