"""What has to be swept up now and then; the scheduler promises it."""

from datetime import timedelta

import structlog

from actors.verbs import promise, record
from db import auth, idempotency, links, operating, postgres, sign_in_failures, times

log = structlog.get_logger(__name__)

# Rows that one transaction deletes: well below what the statement timeout allows.
_MANY = 5000
# How long a sign-in failure is kept after it stopped to count, and an address that an account knows.
SIGN_IN_FAILURE_LIFE = timedelta(hours=2)
KNOWN_ADDRESS_LIFE = timedelta(days=90)
# How long looking for one invariant may take, in seconds: less than an actor has.
_PATIENCE = 5


@record("housekeeping")
def expire_refresh_tokens() -> None:
    """Deletes refresh tokens past their seven days, and the sessions that have none left."""
    if auth.expire_refresh_tokens(times.now(), _MANY) == _MANY:
        promise(expire_refresh_tokens.message())


@record("housekeeping")
def expire_one_time_tokens() -> None:
    """Deletes links that no longer work."""
    links.expire(times.now())


@record("housekeeping")
def expire_sign_in_failures() -> None:
    """Deletes sign-in failures that slow nobody down any more, and addresses that were not used for long."""
    sign_in_failures.expire(times.now() - SIGN_IN_FAILURE_LIFE)
    sign_in_failures.expire_known_addresses(times.now() - KNOWN_ADDRESS_LIFE)


@record("housekeeping")
def expire_idempotency_keys() -> None:
    """Deletes keys that are a day old and whose payment is final."""
    if idempotency.expire(times.now() - timedelta(days=1), _MANY) == _MANY:
        promise(expire_idempotency_keys.message())


@record("housekeeping")
def check_invariants() -> None:
    """Lets each invariant be looked at by itself: together they might take longer than an actor has."""
    for name in operating.INVARIANTS:
        promise(check_invariant.message(name).once(name))


@record("housekeeping")
def check_invariant(name: str) -> None:
    """Looks whether what must hold does hold of the last day's payments, for whoever watches."""
    now = times.now()
    try:
        found = operating.check(name, now, since=now - timedelta(days=1), seconds=_PATIENCE)
    except postgres.Unreachable as error:
        if not postgres.too_slow(error):
            raise
        # The next minute asks again: no reason to insist on this one.
        log.warning("an invariant takes too long to look at", invariant=name)
        return
    if not found.ok:
        log.error("an invariant is broken", invariant=name, count=found.count, some=found.offenders[:3])
    operating.keep(found)
