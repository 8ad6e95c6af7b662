"""Jobs of the scheduler that delete expired rows, write down counted refusals and store totals of days."""

from datetime import timedelta

from actors import audit
from actors.jobs import enqueue, transactional_job
from db import idempotency, one_time_tokens, reports, samples, sessions, sign_in_failures
from db.core import times

# Rows that one transaction deletes: a number that stays well within the statement timeout.
DELETE_BATCH = 5000
# Minutes of refusals that one transaction writes down.
REFUSAL_BATCH = 500
# How long a sign-in failure is kept: longer than it counts.
SIGN_IN_FAILURE_LIFE = timedelta(hours=2)
# How long a client address is kept from which an account has signed in.
KNOWN_ADDRESS_LIFE = timedelta(days=90)
# How long an Idempotency-Key is kept at least.
IDEMPOTENCY_KEY_LIFE = timedelta(days=1)

# Days whose payments, or requests, one transaction adds up.
CLOSE_BATCH = 5


@transactional_job("housekeeping.expire_refresh_tokens", queue="housekeeping")
def expire_refresh_tokens() -> None:
    """Deletes expired refresh tokens, and the sessions that have none left."""
    if sessions.delete_expired_refresh_tokens(times.now(), DELETE_BATCH) == DELETE_BATCH:
        enqueue(expire_refresh_tokens.job())


@transactional_job("housekeeping.expire_one_time_tokens", queue="housekeeping")
def expire_one_time_tokens() -> None:
    """Deletes expired tokens of mailed links."""
    one_time_tokens.delete_expired(times.now())


@transactional_job("housekeeping.expire_sign_in_failures", queue="housekeeping")
def expire_sign_in_failures() -> None:
    """Deletes sign-in failures that no longer count, and client addresses that were not used for long."""
    now = times.now()
    sign_in_failures.delete_expired(
        failed_before=now - SIGN_IN_FAILURE_LIFE, seen_before=now - KNOWN_ADDRESS_LIFE
    )


@transactional_job("housekeeping.sum_up_refusals", queue="housekeeping")
def sum_up_refusals() -> None:
    """Audits how often sign-ins and mail requests were refused in each minute that is over."""
    if audit.record_sums(times.now() - timedelta(minutes=1), REFUSAL_BATCH) == REFUSAL_BATCH:
        enqueue(sum_up_refusals.job())


@transactional_job("housekeeping.expire_idempotency_keys", queue="housekeeping")
def expire_idempotency_keys() -> None:
    """Deletes idempotency keys that are a day old and whose payment is terminal."""
    if idempotency.delete_expired(times.now() - IDEMPOTENCY_KEY_LIFE, DELETE_BATCH) == DELETE_BATCH:
        enqueue(expire_idempotency_keys.job())


@transactional_job("housekeeping.close_days", queue="housekeeping")
def close_days() -> None:
    """Stores the totals of days whose payments are all terminal, for reports and analytics."""
    if reports.close_days(CLOSE_BATCH) == CLOSE_BATCH:
        enqueue(close_days.job())


@transactional_job("housekeeping.expire_samples", queue="housekeeping")
def expire_samples() -> None:
    """Deletes samples that are older than a day."""
    samples.delete_expired(times.now())
