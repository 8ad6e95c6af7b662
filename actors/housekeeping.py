"""What has to be swept up now and then; the scheduler promises it."""

from datetime import timedelta
from itertools import pairwise

import structlog

from actors import audit
from actors.jobs import enqueue, external_job, transactional_job
from db import (
    audit_chain,
    idempotency,
    invariants,
    job_journal,
    one_time_tokens,
    postgres,
    sessions,
    sign_in_failures,
)
from db.core import times

log = structlog.get_logger(__name__)

# Rows that one transaction deletes: well below what the statement timeout allows.
_MANY = 5000
# How many minutes of refusals one transaction writes down.
_REFUSALS = 500
# How long a sign-in failure is kept after it stopped to count, and an address that an account knows.
SIGN_IN_FAILURE_LIFE = timedelta(hours=2)
KNOWN_ADDRESS_LIFE = timedelta(days=90)
# How long looking at one invariant may take, in seconds: less than a job has.
_LOOK_S = 5
# The run of looks that the scheduler asks for.
_SCHEDULED = "scheduled"
# Audit rows up to which the whole log is verified each minute; a longer one is verified once a day.
_AUDIT_ROWS_A_MINUTE = 100_000
# Steps of a look at the newest audit rows.
_NEWEST_STEPS = 10


@transactional_job("housekeeping.expire_refresh_tokens", queue="housekeeping")
def expire_refresh_tokens() -> None:
    """Deletes refresh tokens past their seven days, and the sessions that have none left."""
    if sessions.delete_expired_refresh_tokens(times.now(), _MANY) == _MANY:
        enqueue(expire_refresh_tokens.job())


@transactional_job("housekeeping.expire_one_time_tokens", queue="housekeeping")
def expire_one_time_tokens() -> None:
    """Deletes links that no longer work."""
    one_time_tokens.delete_expired(times.now())


@transactional_job("housekeeping.expire_sign_in_failures", queue="housekeeping")
def expire_sign_in_failures() -> None:
    """Deletes sign-in failures that slow nobody down any more, and addresses that were not used for long."""
    sign_in_failures.delete_before(times.now() - SIGN_IN_FAILURE_LIFE)
    sign_in_failures.delete_known_addresses_before(times.now() - KNOWN_ADDRESS_LIFE)


@transactional_job("housekeeping.sum_up_refusals", queue="housekeeping")
def sum_up_refusals() -> None:
    """Writes down how often sign-ins were refused, and letters asked for, in the minutes that are over."""
    if audit.sum_up(times.now() - timedelta(minutes=1), _REFUSALS) == _REFUSALS:
        enqueue(sum_up_refusals.job())


@transactional_job("housekeeping.expire_idempotency_keys", queue="housekeeping")
def expire_idempotency_keys() -> None:
    """Deletes keys that are a day old and whose payment is final."""
    if idempotency.delete_expired(times.now() - timedelta(days=1), _MANY) == _MANY:
        enqueue(expire_idempotency_keys.job())


@transactional_job("housekeeping.check_invariants", queue="housekeeping")
def check_invariants() -> None:
    """Lets all that must hold be looked at, and the audit log be verified."""
    look(_SCHEDULED, whole=audit_chain.approximate_length() <= _AUDIT_ROWS_A_MINUTE or not _verified_today())


def look(run: str, *, whole: bool) -> None:
    """Enqueues one look at each invariant, under a name of the run: the same run is there once. The `whole`
    audit log is verified if asked for; where that is under way, it goes on."""
    # One after the other, each in a job of its own: together they could outlast a job, or keep other jobs of
    # their queue waiting.
    enqueue(_check(invariants.names()[0], run))
    if whole or audit_chain.load_position(audit_chain.WHOLE):
        enqueue(_verify_from(audit_chain.load_position(audit_chain.WHOLE) or audit_chain.CHAIN_START))


def _verify_from(at: audit_chain.ChainPosition) -> job_journal.Job:
    return verify_audit_log.job().unique(str(at.seq))


def _check(name: str, run: str) -> job_journal.Job:
    return check_invariant.job(name, run).unique(f"{name} {run}")


def _verified_today() -> bool:
    at = invariants.last_checked_at(invariants.WHOLE_AUDIT_LOG)
    return at is not None and at.date() == times.now().date()


@external_job("housekeeping.check_invariant", queue="housekeeping")
def check_invariant(name: str, run: str = _SCHEDULED) -> job_journal.Job | None:
    """Looks at one invariant, of what changed in the last day, for whoever watches; then at the next one."""
    with postgres.connection():
        if name in invariants.INVARIANTS:
            _keep(_standing(name))
        elif name == invariants.NEWEST_AUDIT_ROWS:
            _verify_newest_audit_rows()
    # A name of another release is followed by none: the next minute begins anew.
    following = dict(pairwise(invariants.names())).get(name)
    return _check(following, run) if following else None


def _standing(name: str) -> invariants.InvariantStatus:
    now = times.now()
    try:
        return invariants.check(name, now, since=now - timedelta(days=1), seconds=_LOOK_S)
    except Exception as error:
        if postgres.is_unavailable(error):
            raise
        # What is not known to hold is no green, and keeps no other from being looked at.
        slow = postgres.is_timeout(error)
        reason = f"looking at it took longer than {_LOOK_S} s" if slow else "looking at it failed"
        log.error("an invariant could not be looked at", invariant=name, reason=reason, exc_info=error)
        return invariants.InvariantStatus(name, None, (), now, reason)


def _keep(found: invariants.InvariantStatus) -> None:
    if found.count:
        some = list(found.offenders[:3])
        log.error("an invariant is broken", invariant=found.name, count=found.count, some=some)
    invariants.save(found)


def _verify_newest_audit_rows() -> None:
    """Verifies what was written since the last look, from the place that was verified then: so the newest row
    is missed at once, however long the log is."""
    at = audit_chain.load_position(audit_chain.NEWEST)
    if at is None:
        # The whole log is verified first, and leaves a place.
        return
    for _ in range(_NEWEST_STEPS):
        found = audit_chain.verify_next(at)
        if found.broken:
            break
        audit_chain.save_position(audit_chain.NEWEST, at := found.reached)
        if found.ended:
            break
    _keep(_audit_standing(invariants.NEWEST_AUDIT_ROWS, found))


def _audit_standing(name: str, found: audit_chain.VerificationStep) -> invariants.InvariantStatus:
    broken = found.broken
    if broken is None and not found.ended:
        return invariants.InvariantStatus(
            name, None, (), times.now(), "more rows came than could be verified"
        )
    ids = [str(broken.id)] if broken and broken.id else []
    return invariants.InvariantStatus(
        name, int(broken is not None), ids, times.now(), broken.how if broken else None
    )


@external_job("housekeeping.verify_audit_log", queue="housekeeping")
def verify_audit_log() -> job_journal.Job | None:
    """Verifies the next rows of the audit log, then those after them, to the end or to the first break."""
    with postgres.connection():
        found = audit_chain.verify_next(
            audit_chain.load_position(audit_chain.WHOLE) or audit_chain.CHAIN_START
        )
        if not found.ended and not found.broken:
            audit_chain.save_position(audit_chain.WHOLE, found.reached)
            return _verify_from(found.reached)
        audit.witness(found)
        _keep(_audit_standing(invariants.WHOLE_AUDIT_LOG, found))
        audit_chain.delete_position(audit_chain.WHOLE)
        if found.broken is None:
            if audit_chain.load_position(audit_chain.NEWEST) is None:
                _keep(_audit_standing(invariants.NEWEST_AUDIT_ROWS, found))
            audit_chain.save_position(audit_chain.NEWEST, found.reached)
    return None
